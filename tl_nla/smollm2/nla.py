"""The natural language autoencoder that ships for SmolLM2: adapters over the target's own weights."""

from pathlib import Path
from typing import Any

import torch

from tl_nla.errors import InputError
from tl_nla.model.files import read_json
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.nla.adapted import adapted_nla
from tl_nla.nla.adapted_files import SETTINGS, fill_adapted, save_adapted, saved_config
from tl_nla.nla.pair import NLA
from tl_nla.smollm2.fingerprint import check_fingerprint, fingerprint

WEIGHTS = Path(__file__).parent / "weights" / "nla"
_FINGERPRINT = "fingerprint"


def load_nla(model: Any, folder: Path, weights: Path = WEIGHTS) -> NLA:
    """The shipped pair over the weights in a folder.

    Args:
        model: the same weights as a TransformerLens model; its states are compared with those of the model that the
            pair was trained on.
        folder: with the target's weights, which verbalizer and reconstructor share.
        weights: of the pair.

    Returns:
        The pair in evaluation mode; ``nla.provenance`` says how it was made, and ``nla.provenance["agreement"]`` how
        well the model agrees with its target (a mean cosine).

    Raises:
        InputError: when the model is another one, or a file is missing or damaged.
    """
    if not (weights / SETTINGS).is_file():
        raise InputError(f"no NLA of SmolLM2 in {weights}; this installation of tl-nla lacks it")
    about = read_json(weights / SETTINGS).get("about") or {}
    agreed = check_fingerprint(model, about.get(_FINGERPRINT) or [], "the NLA of SmolLM2")
    dtype = torch.bfloat16 if model.W_U.dtype == torch.bfloat16 else torch.float32
    nla = adapted_nla(load_causal_lm(folder, dtype), load_tokenizer(folder), saved_config(weights))
    fill_adapted(nla, weights)
    if dtype == torch.float32:
        nla.float()  # adapters, too: otherwise their products are rounded to bfloat16, and words depend on the batch
    nla.base = "smollm2"
    nla.provenance = {**about, "agreement": agreed}
    return nla.eval().requires_grad_(False)


def ship_nla(nla: NLA, model: Any, about: dict[str, Any], weights: Path = WEIGHTS) -> None:
    """Write a trained pair as it ships, in bfloat16.

    Args:
        nla: made by :func:`tl_nla.nla.adapted.adapted_nla`.
        model: the target as a TransformerLens model, whose fingerprint is kept.
        about: how it was trained: data recipe, commit, seeds, steps.
        weights: where to.

    Raises:
        InputError: when a weight is not finite or the folder cannot be written to.
    """
    weights.mkdir(parents=True, exist_ok=True)
    save_adapted(nla, weights, torch.bfloat16, {**about, _FINGERPRINT: fingerprint(model)})
