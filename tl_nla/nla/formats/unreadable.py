"""Released layouts that are recognised and not read, with what is missing for it."""

from tl_nla.errors import InputError
from tl_nla.nla.formats.listing import Listing

_ORACLES = {"ao_config.json", "mlao_config.json", "lens_config.json"}


def is_oracle(listing: Listing) -> bool:
    """Whether a folder is an oracle's: it answers questions and rebuilds nothing."""
    return bool(_ORACLES & set(listing.here)) or "transform" in listing.json("meta.json")


def refused(listing: Listing) -> InputError:
    """The error for a folder that no family reads: it names the family where that is known, and what is missing."""
    names = {path.rsplit("/", 1)[-1] for path in listing.files}
    for told, reason in _reasons(listing, names):
        if told:
            return InputError(f"{listing.title}: {reason}")
    shown = ", ".join(listing.here[:6]) or "no files"
    return InputError(
        f"{listing.title} is of no known family (it holds {shown}); a verbalizer has nla_meta.yaml, an activation "
        "oracle ao_config.json, an oracle lens meta.json or lens_config.json"
    )


def _reasons(listing: Listing, names: set[str]) -> list[tuple[bool, str]]:
    return [
        (is_oracle(listing), "an oracle, which answers and rebuilds no vector; open it with "
                             "tl_nla.ActivationOracle.from_pretrained"),
        ("best_av.pt" in names, "RiverRider's verbalizer is a pickle with soft prompts; their layout is missing here"),
        ("linear_head.pt" in names, "Solshine's pairs have no prompt templates in their sidecar and a head with a bias "
                                    "as a pickle; both are missing"),
        ("value_head.pt" in names, "the head is a pickle (value_head.pt), which is never read; convert it with "
                                   "tl_nla.nla.formats.convert.to_safetensors"),
        ("adapter_config.json" in names and "nla_meta.yaml" not in names,
         "adapters without nla_meta.yaml; the prompt, the marker and the injection are missing (nla-at-home and others "
         "keep them in their scripts)"),
    ]  # fmt: skip
