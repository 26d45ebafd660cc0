"""The other half of a pair: in the same repository, or in the one whose name ends otherwise."""

from tl_nla.errors import InputError
from tl_nla.nla.formats.listing import Listing
from tl_nla.paths import user_path

_HALVES = (("av", "ar"), ("actor", "critic"))


def halves(av: Listing, ar: Listing | None) -> tuple[Listing, Listing | None]:
    """Folders of verbalizer and reconstructor.

    Returns:
        The reconstructor's is ``None`` where it is nowhere.
    """
    for first, second in _HALVES:
        if ar is None and {first, second} <= set(av.folders):
            return av.at(first), av.at(second)
    if ar is None and not av.inside:
        ar = renamed(av, "-av", "-ar")
        title = av.title.rstrip("/")
        if ar is None and title.endswith("/av") and user_path(title[:-2] + "ar").is_dir():
            ar = Listing.of(title[:-2] + "ar")
    return av, ar


def renamed(listing: Listing, old: str, new: str) -> Listing | None:
    """The folder or repository beside one, whose name ends in ``new`` instead of ``old``; ``None`` without one."""
    name = listing.name.rstrip("/")
    if not name.endswith(old):
        return None
    other = name.removesuffix(old) + new
    return Listing.of(other) if listing.on_hub or user_path(other).is_dir() else None


def needed(av: Listing, ar: Listing | None) -> Listing:
    """The reconstructor's folder.

    Raises:
        InputError: when there is none.
    """
    if ar is None:
        raise InputError(
            f"{av.title} has no reconstructor beside it (no folders av and ar, no name that ends in -ar); give its "
            "folder or hub id as ar="
        )
    return ar
