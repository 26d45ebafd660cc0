"""What wrappers of a pair share: they change what it says, and are the pair in everything else."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tl_nla.errors import InputError
from tl_nla.nla.verbalizer import Generation


class AroundPair:
    """A pair with another ``generate``; base of :class:`tl_nla.nla.BestOf` and :class:`tl_nla.nla.SureWords`.

    Attributes:
        pair: a verbalizer with its reconstructor, any :class:`tl_nla.nla.protocols.Pair` such as :class:`tl_nla.NLA`.
    """

    pair: Any

    def __getattr__(self, name: str) -> Any:
        """Layer, site, mean and the like are the pair's."""
        if name.startswith("__") or name == "pair":
            raise AttributeError(name)
        return getattr(self.pair, name)

    def generate(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> Generation:
        """Explanations with their tokens."""
        raise NotImplementedError

    def verbalize(self, acts: Float[Tensor, "n d_model"], **settings: Any) -> list[str]:
        """The texts of :meth:`generate`."""
        return self.generate(acts, **settings).texts

    def reconstruct(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "n d_model"]:
        """Vectors read back from explanations, by the pair."""
        return self.pair.reconstruct(texts, batch_size)


def check_pair(pair: Any) -> None:
    """Refuse what cannot be wrapped.

    Raises:
        InputError: for what has no ``generate`` or no ``reconstruct``.
    """
    if not (hasattr(pair, "generate") and hasattr(pair, "reconstruct")):
        raise InputError(f"{type(pair).__name__} cannot sample words and read them back; give an NLA")
