"""LatentQA's decoders, which are recognised and not read: the turns of their prompts are not known here."""

from tl_nla.errors import InputError
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.oracle_plan import OraclePlan


def plan(listing: Listing) -> OraclePlan | None:
    """Nothing.

    Raises:
        InputError: for a decoder of LatentQA's; it says what is missing.
    """
    name = listing.title.lower()
    if "latentqa" not in name or "checkpoints_latentqa" in name:
        return None
    raise InputError(
        f"{listing.title}: LatentQA's decoders put states of block 15 behind block 0, at a run of '? '. What is "
        "missing is the order of the turns around that run. Give protocol=OracleProtocol(...) if you know it"
    )
