"""States captured from documents, each with the explanation of its position and what is known to be true there."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_nla.amounts import check_count, check_counts
from tl_nla.data.documents import Document, check_documents
from tl_nla.data.progress import told
from tl_nla.errors import InputError
from tl_nla.explainers import Explainer, Moment, explain_mechanically
from tl_nla.explainers.base import PlacedExplainer, explain_documents
from tl_nla.model.control import cleaner, control_ids, without_control
from tl_nla.model.hooks import tap
from tl_nla.model.memory import fitting_batches
from tl_nla.model.narrow import LOGIT_BUDGET, logit_pieces
from tl_nla.model.probe import device_of, lock_of
from tl_nla.model.text import TextEncoder, TextTokens

RECENT_TOKENS = 6
_GUESSES, _GUESS_FLOOR = 3, 0.1
_END = "the end"
"""How an explanation calls the end token, whose own name would end the explanation."""


@dataclass(frozen=True)
class ExplainedStates:
    """Rows of one capture, in document order.

    Attributes:
        acts: the states, float32.
        explanations: the text that the explainer wrote for each.
        truths: what the explainer knows to be true at each position.
        contexts: the last tokens of the raw text, as many as the explanation has: the ``cat`` control.
        document: index of each row's document among the captured ones.
        position: token position of each row, counted from the begin token where there is one.
    """

    acts: Float[Tensor, "n d_model"]
    explanations: list[str]
    truths: list[Any]
    contexts: list[str]
    document: Int[Tensor, " n"]
    position: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.explanations)


@dataclass(frozen=True)
class StateCapture:
    """How states are captured and explained.

    Attributes:
        seed: of the draw of positions.
        batch_size: documents a forward pass at most; long ones go through in smaller batches, so that memory stays
            within bounds (:mod:`tl_nla.model.memory`).
        explainer: writes the explanations; by default of the recent words and the model's own guesses.
        prepend_bos: see :class:`tl_nla.model.text.TextEncoder`.
        longest: tokens of a text that are read at most; the model's context when ``None``.
    """

    seed: int = 0
    batch_size: int = 64
    explainer: Explainer = explain_mechanically
    prepend_bos: bool | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        check_counts(self, "batch_size", "longest")


@torch.no_grad()
def explain_states(
    model: Any, tokenizer: Any, documents: Sequence[Document], point: str, positions_per_document: int | None = 5,
    min_position: int = 1, how: StateCapture | None = None,
) -> ExplainedStates:  # fmt: skip
    """Read states of documents at one hook point and write their explanations.

    Args:
        model: a ``HookedTransformer`` or ``TransformerBridge``.
        tokenizer: its tokenizer.
        documents: the texts; longer ones are cut to the model's context.
        point: name of a residual-stream hook point, such as ``"blocks.2.hook_resid_post"``.
        positions_per_document: how many positions are drawn from each document; ``None`` takes all.
        min_position: first position that may be drawn. Position 0 is the begin token, or the first word where there
            is none: attention uses it as a sink, and its state says little.
        how: seed, batches, explainer and begin token. An explainer with ``positions`` (such as the explanations that
            documents bring) is asked at those positions only.

    Returns:
        The rows. Explanations depend on the text up to the position and on the model's prediction there only.

    Raises:
        InputError: when no document has a position to explain, or a number is too small.
    """
    how = how or StateCapture()
    _check(documents, positions_per_document, min_position)
    encode, words = TextEncoder(tokenizer, model, how.prepend_bos), _Words(tokenizer)
    longest = min(int(model.cfg.n_ctx), how.longest or sys.maxsize)
    encoded = [encode(document.text).cut(longest) for document in documents]
    chosen = [_draw(_places(how.explainer, document, tokens, min_position), positions_per_document,
                    f"{how.seed}/{document.id}")
              for tokens, document in zip(encoded, documents, strict=True)]  # fmt: skip
    if not any(chosen):
        raise InputError(_nothing_to_explain(how.explainer, min_position))
    # What stands behind the last drawn position is not run: nothing of it enters a row.
    needed = {row: encoded[row].ids[: places[-1] + 1] for row, places in enumerate(chosen) if places}
    numbers = list(needed)
    rows: dict[int, list[tuple[int, Tensor, str, Any, str]]] = {}
    sizes = [len(ids) for ids in needed.values()], [len(chosen[row]) for row in numbers]
    batches = fitting_batches(model, sizes[0], how.batch_size, wanted=sizes[1], logits=LOGIT_BUDGET)
    for group in told(batches, "capturing states"):
        batch = [numbers[place] for place in group]
        acts, guesses = _forward(model, words, [(needed[row], chosen[row]) for row in batch], point)
        first, asked = 0, []
        for row in batch:
            own = slice(first, first := first + len(chosen[row]))
            asked.append((row, acts[own], _moments(words, encoded[row], chosen[row], guesses[own], acts[own], point)))
        written = explain_documents(how.explainer, [(documents[row].text, moments) for row, _, moments in asked])
        if not isinstance(how.explainer, PlacedExplainer):
            written = [[(words.clean(text), truth) for text, truth in said] for said in written]
        for (row, own_acts, _), said in zip(asked, written, strict=True):
            texts = _with_context(words, encoded[row], chosen[row], said)
            rows[row] = [(p, a, *t) for p, a, t in zip(chosen[row], own_acts, texts, strict=True)]
    flat = [(row, *entry) for row in sorted(rows) for entry in rows[row]]
    document, position, read, explanations, truths, contexts = map(list, zip(*flat, strict=True))
    places = torch.tensor(document), torch.tensor(position)
    return ExplainedStates(torch.stack(read), explanations, truths, contexts, *places)


def _check(documents: Sequence[Document], positions: int | None, min_position: int) -> None:
    check_documents(documents)
    check_count("min_position", min_position, 0)
    if positions is not None:
        check_count("positions_per_document", positions)


def _places(explainer: Explainer, document: Document, tokens: TextTokens, first: int) -> list[int]:
    """Positions of a document that can be explained, counted from the begin token where there is one."""
    if not isinstance(explainer, PlacedExplainer):
        return list(range(first, len(tokens)))
    return [place + tokens.added for place in explainer.positions(document, len(tokens) - tokens.added)]


def _nothing_to_explain(explainer: Explainer, min_position: int) -> str:
    if isinstance(explainer, PlacedExplainer):
        return "no document brings an explanation; give one in the column 'explanation', or another explainer"
    return f"no document has a token after position {min_position}; give longer texts"


def _draw(places: list[int], count: int | None, seed: str) -> list[int]:
    if count is None or count >= len(places):
        return places
    return sorted(random.Random(seed).sample(places, count))


def _forward(
    model: Any, words: "_Words", batch: list[tuple[list[int], list[int]]], point: str
) -> tuple[Float[Tensor, "n d_model"], list[list[tuple[str, float]]]]:
    """States and guesses at the chosen positions of texts, text by text."""
    width = max(len(ids) for ids, _ in batch)
    # Right padding of a causal model needs no mask: nothing behind a position can reach it.
    pad = words.tokenizer.pad_token_id or 0
    tokens = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch], device=device_of(model))
    chosen = torch.zeros(tokens.shape, dtype=torch.bool, device=tokens.device)
    for row, (_, places) in enumerate(batch):
        chosen[row, places] = True
    kept: list[Tensor] = []

    def keep(activation: Tensor, hook: Any) -> None:
        kept.append(activation.detach()[chosen.to(activation.device)].float().cpu())

    guesses: list[list[tuple[str, float]]] = []
    with lock_of(model), tap(model, [(point, keep)]):
        for logits in logit_pieces(model, tokens, chosen):
            guesses += _guesses(words, logits)
    return kept[-1], guesses


def _guesses(words: "_Words", logits: Float[Tensor, "n vocab"]) -> list[list[tuple[str, float]]]:
    top = logits.topk(_GUESSES)
    # Row by row: a copy of all logits in float32 would be as large as they are.
    total = torch.stack([row.float().logsumexp(-1) for row in logits])
    listed = []
    for values, ids in zip((top.values.float() - total[:, None]).exp().tolist(), top.indices.tolist(), strict=True):
        named = [(words.of_guess(i), p) for p, i in zip(values, ids, strict=True)]
        pairs = [(word, p) for word, p in named if word]
        listed.append(pairs[:1] + [pair for pair in pairs[1:] if pair[1] >= _GUESS_FLOOR])
    return listed


class _Words:
    """Tokens as words of an explanation, which holds no control token."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.control = tokenizer, control_ids(tokenizer)
        self.clean = cleaner(tokenizer)

    def of_guess(self, token: int) -> str:
        """A guess at the next token; nothing for a control token other than the end."""
        if token == self.tokenizer.eos_token_id:
            return _END
        return "" if token in self.control else without_control(str(self.tokenizer.decode([token])))

    def last(self, ids: Sequence[int], count: int) -> str:
        """The last ``count`` tokens of a text."""
        return without_control(str(self.tokenizer.decode([i for i in ids if i not in self.control][-count:])))


def _moments(
    words: _Words, tokens: TextTokens, positions: list[int], guesses: list[list[tuple[str, float]]], acts: Tensor,
    point: str,
) -> list[Moment]:  # fmt: skip
    moments = []
    for position, guessed, act in zip(positions, guesses, acts, strict=True):
        told = tokens.ids[tokens.added : position + 1]
        text, recent = words.tokenizer.decode(told), words.last(told, RECENT_TOKENS)
        moments.append(Moment(text, recent, guessed, act, position - tokens.added, point))
    return moments


def _with_context(
    words: _Words, tokens: TextTokens, positions: list[int], written: list[tuple[str, Any]]
) -> list[tuple[str, Any, str]]:
    """Beside each explanation the end of the raw text that has as many tokens."""
    rows = []
    for position, (text, truth) in zip(positions, written, strict=True):
        length = len(words.tokenizer.encode(text, add_special_tokens=False))
        rows.append((text, truth, words.last(tokens.ids[tokens.added : position + 1], length)))
    return rows
