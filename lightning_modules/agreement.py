"""What is said twice, by the data and by the module that trains on them, has to be the same."""

from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.sites import Site

_MAKERS = {
    "states": "ActivationDataModule or CapturedDataModule", "writes": "DiffDataModule", "sources": "SourceDataModule",
    "residuals": "ContributionDataModule",
}  # fmt: skip


def same_state(one: Site | str, other: Site | str) -> bool:
    """Whether two sites are one state: the output of a block is the input of the next."""
    first, second = Site.parse(one), Site.parse(other)
    return first == second or (first.kind == second.kind == "state" and first.order == second.order)


def check_data(name: str, data: Any, needs: str | None, site: Site | str | None, width: int | None) -> None:
    """Compare a data module with the module that is run on it.

    Args:
        name: of the module, for messages.
        data: the data module; what it does not tell is not compared.
        needs: what the module reads, as the ``serves`` of our data modules tells it.
        site: state that the module explains.
        width: size of its vectors.

    Raises:
        InputError: naming both sides.
    """
    serves = getattr(data, "serves", None)
    if needs is not None and serves is not None and serves != needs:
        raise InputError(
            f"{name} is trained on {needs}, {type(data).__name__} serves {serves}; give it {_MAKERS.get(needs, needs)}"
        )
    found = getattr(data, "site", None) if serves in (None, "states") else None
    if site is not None and isinstance(found, Site | str) and not same_state(found, site):
        raise InputError(
            f"the data are states at {str(found)!r}, {name} explains {str(site)!r}; give both the same layer and site"
        )
    size = getattr(data, "width", None)
    if width is not None and isinstance(size, int) and size != width:
        raise InputError(f"the data hold vectors of size {size}, {name} reads size {width}; give both the same model")


def check_checkpoint(what: str, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Compare what a checkpoint tells of its run with this run.

    Args:
        what: is compared, for messages.
        saved: from the checkpoint; what it does not tell is not compared.
        own: of this run.

    Raises:
        InputError: naming the first difference.
    """
    for key, value in own.items():
        found = saved.get(key)
        if found is None or value is None or found == value:
            continue
        if key != "site" or not same_state(found, value):
            raise InputError(
                f"the checkpoint was written with {what} of {key} {_short(found)}, this run has {_short(value)}; "
                "continue with the same settings"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_weights(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Compare names and shapes of a checkpoint's weights with those of a module.

    Raises:
        InputError: naming the first difference.
    """
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (saved, own)]
    odd = sorted(name for name in {*shapes[0], *shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
    if odd:
        sides = [str(known.get(odd[0], "nothing")) for known in shapes]
        raise InputError(
            f"the checkpoint holds other weights than this training has: {len(odd)} differ ({odd[0]!r} is {sides[0]} "
            f"there and {sides[1]} here). Build the module with the same model, layer and settings"
        )
