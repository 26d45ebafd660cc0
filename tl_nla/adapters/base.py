"""What all adapters share."""

from abc import ABC, abstractmethod
from typing import Any

from tl_nla.errors import InputError
from tl_nla.model.hooks import HookPair


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


def refuse_other_width(model: Any, reader: Any, reads: str = "the NLA reads activations") -> None:
    """Refuse what says that it reads vectors of another size than the model's."""
    width, wanted = int(model.cfg.d_model), getattr(reader, "d_model", None)
    if wanted is not None and int(wanted) != width:
        raise InputError(f"{reads} of size {wanted}, this model has d_model {width}")
