"""The embedded default: loads from the package, needs no network."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.model.targets import TINY, load_target
from tl_nla.nla import NLA

WEIGHTS = Path(__file__).parent / "weights"
GROUNDING_FILE = "grounding.safetensors"
EMBEDDED_SITE = "blocks.2.hook_resid_post"
"""Where the embedded pair reads."""
_STORIES = 30


@dataclass(frozen=True)
class Tiny:
    """The embedded target with its NLA.

    Attributes:
        model: the target as a ``TransformerBridge``.
        tokenizer: its tokenizer.
        nla: verbalizer and reconstructor of ``blocks.2.hook_resid_post``.
        world: the module :mod:`tl_nla.storyworld`, whose generator and parser know the truth.
    """

    model: Any
    tokenizer: Any
    nla: NLA
    world: ModuleType

    @property
    def oracle(self) -> Any:
        """The embedded diff oracle.

        Raises:
            InputError: when its weights are not part of this installation.
        """
        folder = WEIGHTS / "oracle"
        if not folder.is_dir():
            raise InputError("this version embeds no diff oracle yet; train one with DiffOracle.create")
        from tl_nla.oracle import DiffOracle

        return DiffOracle.from_pretrained(folder)


def embedded_grounding() -> Any:
    """The probes that tell which facts the embedded target's states hold.

    Raises:
        InputError: when they are not part of this installation.
    """
    from tl_nla.storyworld.grounding import Grounding

    return Grounding.load(WEIGHTS / GROUNDING_FILE)


def embedded_vocabulary(model: Any, tokenizer: Any) -> Any:
    """The words that the embedded target ever expects (:func:`tl_nla.oracle.labels.expected_vocabulary`)."""
    from tl_nla.oracle.labels import expected_vocabulary
    from tl_nla.storyworld.documents import world_documents

    return expected_vocabulary(model, tokenizer, world_documents(_STORIES, 0))


def load_tiny() -> Tiny:
    """Load the embedded target and its NLA.

    Raises:
        InputError: when the embedded weights are missing or damaged.
    """
    import tl_nla.storyworld as world

    target = load_target(TINY)
    nla = NLA.from_pretrained(WEIGHTS / "av", WEIGHTS / "ar", dtype=torch.float32)
    return Tiny(target.model, target.tokenizer, nla, world)
