"""Which family a released oracle is of."""

from pathlib import Path

from tl_nla.errors import InputError
from tl_nla.nla.formats import activation_oracles, latentqa, oracle_lens, transluce
from tl_nla.nla.formats.listing import Listing
from tl_nla.nla.formats.oracle_plan import OraclePlan
from tl_nla.nla.oracle_prompt import OracleProtocol

FAMILIES = (activation_oracles, oracle_lens, transluce, latentqa)


def plan_oracle(name: str | Path, protocol: OracleProtocol | None = None) -> OraclePlan:
    """Find out of which family an oracle is; no weight is read.

    Args:
        name: folder or hub id.
        protocol: how it is asked, where the user knows it; the family is then not looked for.

    Raises:
        InputError: when it is of no known family; the message says what is missing.
    """
    listing = Listing.of(name)
    if protocol is not None:
        return OraclePlan(protocol, listing)
    for family in FAMILIES:
        found = family.plan(listing)
        if found is not None:
            return found
    shown = ", ".join(listing.here[:6]) or "no files"
    told = "nla_meta.yaml tells a verbalizer; open it with tl_nla.NLA.from_pretrained"
    raise InputError(
        f"{listing.title} is no oracle of a known family (it holds {shown}): "
        + (told if listing.has("nla_meta.yaml") else
           "ao_config.json, mlao_config.json or an oracle lens's meta.json is missing. A plain model is asked with "
           "tl_nla.ActivationOracle.baseline")
    )  # fmt: skip
