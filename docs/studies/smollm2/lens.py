"""Lenses for writes of SmolLM2: what a change of the state in some layer makes of the last layer's state.

``python -m docs.studies.smollm2.lens --corpus corpus --keep writes``
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from docs.studies.smollm2.capture import read_corpus
from docs.studies.smollm2.effects import cut
from tl_nla.data.progress import tell, told
from tl_nla.errors import InputError
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.placement import Placement
from tl_nla.model.targets import load_target
from tl_nla.smollm2.weights import find_weights

TOKENS, SKIPPED, ROWS = 40, 16, 24
"""Of each text that TransformerLens fits on: its tokens, the first ones left out (its own default), rows of a pass."""
EACH = 4
"""Documents of each kind of text whose last token the other fit reads."""
TEXTS = 2
"""That TransformerLens fits on, one of each of so many kinds: each takes a processor minute."""
_CHUNK = 96


@dataclass(frozen=True)
class Lenses:
    """Maps from a write to the last state before the final norm, of every layer.

    Attributes:
        later: TransformerLens's lens: from a block's output, effects on all later positions added up; the last layer's
            is the identity.
        mid: from the state between attention and MLP to the last state at the same position.
        post: the same from a block's output.
    """

    later: Float[Tensor, "layers d_model d_model"]
    mid: Float[Tensor, "layers d_model d_model"]
    post: Float[Tensor, "layers d_model d_model"]

    def save(self, path: Path) -> None:
        """Write all of it as safetensors, in half precision."""
        save_file({name: getattr(self, name).half().contiguous() for name in self.__dataclass_fields__}, path)

    @classmethod
    def load(cls, path: Path) -> "Lenses":
        """Read what was saved."""
        return cls(**{name: tensor.float() for name, tensor in load_file(path).items()})


def texts_of(corpus: Path, each: int) -> list[str]:
    """First pieces of training documents, as many of each kind of text."""
    return [text for _, _, text in read_corpus(corpus / "train.jsonl", each)]


def fitted_later(target: Any, texts: list[str], keep: Path) -> Float[Tensor, "layers d_model d_model"]:
    """TransformerLens's own fit, a file for each text, so that it goes on where it was.

    Args:
        target: the model in float32.
        texts: that it is fitted on.
        keep: folder of the files.
    """
    from transformer_lens.tools.analysis import JacobianLens

    keep.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, (text,) in enumerate(told([[text] for text in texts], "fitting the Jacobian lens")):
        path = keep / f"{number}.pt"
        if not path.is_file():
            lens = JacobianLens.fit(target.model, [text], corpus="make corpus", dim_batch=ROWS, max_seq_len=TOKENS,
                                    skip_first_positions=SKIPPED, show_progress=False)  # fmt: skip
            lens.save(str(path), dtype=torch.float32)
        parts.append(JacobianLens.load(str(path)))
    merged = JacobianLens.merge(parts).jacobians
    return torch.stack([*(merged[layer] for layer in sorted(merged)), torch.eye(len(merged[0]))])


def at_last(model: Any, ids: Int[Tensor, "1 tokens"]) -> tuple[Tensor, Tensor]:
    """What a change at the last token makes of the last state there: ``mid`` and ``post`` of :class:`Lenses`.

    Nothing before the last token changes, so its keys and values are read once, and 576 copies of one token go back.

    Args:
        model: a Hugging Face model of the Llama family in float32, its weights frozen.
        ids: of a text.
    """
    with torch.no_grad():
        past = model.model(ids[:, :-1], use_cache=True).past_key_values
    width = int(model.config.hidden_size)
    past.batch_repeat_interleave(min(_CHUNK, width))
    seen: list[Tensor] = []
    norms = [norm for block in model.model.layers for norm in (block.input_layernorm, block.post_attention_layernorm)]
    hooks = [
        norm.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for norm in (*norms[1:], model.model.norm)
    ]
    copies = min(_CHUNK, width)
    start = model.model.embed_tokens(ids[:, -1:]).expand(copies, -1, -1).detach().requires_grad_()
    try:
        with torch.enable_grad():
            model.model(inputs_embeds=start, past_key_values=past)
    finally:
        for hook in hooks:
            hook.remove()
    found = torch.empty(len(seen), width, width)
    for first in range(0, width, copies):
        wanted = torch.eye(width)[first : first + copies]
        padded = torch.cat([wanted, wanted.new_zeros(copies - len(wanted), width)])[:, None]
        back = torch.autograd.grad(seen[-1], seen, padded, retain_graph=first + copies < width)
        for number, rows in enumerate(back):
            found[number, first : first + copies] = rows[: len(wanted), 0]
    return found[::2], found[1::2]


def fitted_here(model: Any, tokenizer: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Means of :func:`at_last` over the texts, each cut to the length at which the study reads writes."""
    rows = cut(tokenizer, texts)
    total: list[Tensor] = []
    for _, ids in told(rows, "Jacobians at the last token"):
        parts = at_last(model, ids)
        total = [old + new for old, new in zip(total, parts, strict=True)] if total else list(parts)
    return total[0] / len(rows), total[1] / len(rows)


def carried_by_own(
    model: Any, rows: list[Int[Tensor, "1 tokens"]], sites: list[str], writes: Float[Tensor, "rows sites d_model"]
) -> Float[Tensor, "rows sites d_model"]:
    """What each write at a text's last token makes of the last state there, by that text's own Jacobian.

    Args:
        model: see :func:`at_last`.
        rows: token ids of each text.
        sites: heads, attentions and MLPs.
        writes: of these sites in these texts.
    """
    found = torch.empty_like(writes)
    for number, (ids,) in enumerate(told([[ids] for ids in rows], "own Jacobians")):
        mid, post = at_last(model, ids)
        for place, site in enumerate(sites):
            jacobian = (post if site.endswith(".mlp") else mid)[int(site.split(".")[1])]
            found[number, place] = jacobian @ writes[number, place]
    return found


def fitted_lenses(keep: Path) -> Lenses:
    """What this module's command fitted.

    Raises:
        InputError: when it was not run.
    """
    path = keep / "lenses.safetensors"
    if not path.is_file():
        raise InputError(
            f"no lenses in {keep}; fit them: python -m docs.studies.smollm2.lens --corpus corpus --keep {keep}"
        )
    return Lenses.load(path)


def frozen_model() -> tuple[Any, Any]:
    """The Hugging Face model in float32, its weights frozen, and its tokenizer."""
    folder = find_weights()
    return load_causal_lm(folder, torch.float32).eval().requires_grad_(False), load_tokenizer(folder)


def main() -> None:
    """Fit both and save them."""
    parser = argparse.ArgumentParser(prog="python -m docs.studies.smollm2.lens")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--keep", type=Path, required=True, help="folder of captured writes")
    args = parser.parse_args()
    begun = time.process_time()
    here = args.keep / "lens_here.safetensors"
    if not here.is_file():
        mid, post = fitted_here(*frozen_model(), texts_of(args.corpus, EACH))
        save_file({"mid": mid, "post": post}, here)
        tell(f"the fit at the last token took {time.process_time() - begun:.0f} s of processor time")
        begun = time.process_time()
    target = load_target("smollm2", placement=Placement("float32"))
    later = fitted_later(target, texts_of(args.corpus, 1)[:TEXTS], args.keep / "lens_later")
    tell(f"TransformerLens's fit took {time.process_time() - begun:.0f} s of processor time")
    Lenses(later, **load_file(here)).save(args.keep / "lenses.safetensors")


if __name__ == "__main__":
    main()
