"""What all adapters share."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.hooks import HookPair

_OF_AN_NLA = ("verbalize", "reconstruct")
_LOADED = {"NLA": "NLA", "activation oracle": "ActivationOracle", "oracle": "DiffOracle"}


class Adapter(ABC):
    """Gives hook functions to a model; :meth:`results` hands over what came of them.

    Works wherever TransformerLens takes ``(name, function)`` pairs::

        model.run_with_hooks(tokens, fwd_hooks=adapter.hooks(model))
        with model.hooks(fwd_hooks=adapter.hooks(model)):
            model.generate(tokens)
        with attach(model, adapter):
            model.generate(tokens)
    """

    @abstractmethod
    def hooks(self, model: Any) -> list[HookPair]:
        """Hook names and functions for a model; functions that change the model return new tensors.

        Raises:
            InputError: when the adapter does not fit the model.
        """

    @abstractmethod
    def results(self) -> Any:
        """What was found since the last :meth:`reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything found so far."""


def refuse_unfit(
    model: Any, reader: Any, reads: str = "the NLA reads activations", needs: Collection[str] = _OF_AN_NLA
) -> None:
    """Refuse what cannot explain at all, or says that it reads vectors of another size than the model's.

    Args:
        model: the model that is to be read.
        reader: what explains its vectors.
        reads: how a message says so.
        needs: the methods that the reader must have.

    Raises:
        InputError: naming the method that it lacks, or both sizes.
    """
    lacks = [name for name in needs if not callable(getattr(reader, name, None))]
    if lacks:
        what = next(word for word in _LOADED if word in reads)
        raise InputError(
            f"{type(reader).__name__} has no {lacks[0]}() and can be no {what} here; load one, such as "
            f"tl_nla.{_LOADED[what]}.from_pretrained(FOLDER), and give that"
        )
    width, wanted = int(model.cfg.d_model), getattr(reader, "d_model", None)
    if wanted is not None and int(wanted) != width:
        raise InputError(f"{reads} of size {wanted}, this model has d_model {width}")
