"""The oracle that ships with tl-nla: words for what every head, attention, MLP and block of SmolLM2 writes."""

from pathlib import Path
from typing import Any

from tl_nla.errors import InputError
from tl_nla.oracle.words import WordOracle
from tl_nla.smollm2.fingerprint import check_fingerprint

FOLDER = Path(__file__).parent / "weights" / "oracle"
_WIDTH, _LAYERS = 576, 30


def shipped_oracle(model: Any) -> WordOracle:
    """The shipped oracle with the tables of a loaded SmolLM2.

    Args:
        model: SmolLM2-135M-Instruct as a TransformerLens model, in any precision or quantised.

    Returns:
        The oracle. ``oracle.made`` says how it was fitted. Its entry ``"agreement"`` says how well the model's states
        agree with those of the model that it was fitted on (a mean cosine; 1.00 for the same weights).

    Raises:
        InputError: when this installation lacks it, or the model's states say that it is another model.

    Example:
        >>> oracle = tl_nla.load_smollm2().oracle
        >>> oracle.explain(write, before, words=8)
    """
    if not FOLDER.is_dir():
        raise InputError("this installation has no oracle of SmolLM2; train one: tl-nla fit-oracle --model smollm2")
    if (int(model.cfg.d_model), int(model.cfg.n_layers)) != (_WIDTH, _LAYERS):
        shape = f"{model.cfg.n_layers} layers of width {model.cfg.d_model}"
        raise InputError(f"the oracle of SmolLM2 is for {_LAYERS} layers of width {_WIDTH}; this model has {shape}. "
                         "Labels need no oracle: --labels")  # fmt: skip
    oracle = WordOracle.from_pretrained(FOLDER, model=model)
    agreed = check_fingerprint(model, oracle.made.get("fingerprint", []), "the shipped oracle")
    oracle.made = {**oracle.made, "agreement": agreed}
    return oracle
