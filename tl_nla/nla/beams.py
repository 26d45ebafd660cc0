"""Beam search: the likeliest of many responses, where greedy decoding takes the likeliest token each time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_nla.nla.generation import Prompts, Responses, SamplingConfig, Step, read_prompts


@dataclass(frozen=True)
class _Beams:
    """Unfinished responses of the rows that go on, the likeliest of a row first.

    ``rows`` are the numbers of these rows ``[n]``; ids and log-probabilities are ``[n, beams, pos]``.
    """

    rows: Int[Tensor, " n"]
    ids: Int[Tensor, "n beams pos"]
    logprobs: Float[Tensor, "n beams pos"]

    def scores(self) -> Float[Tensor, "n beams"]:
        return self.logprobs.sum(-1)

    def kept(self, rows: Bool[Tensor, " n"]) -> "_Beams":
        return _Beams(self.rows[rows], self.ids[rows], self.logprobs[rows])

    def extended(
        self, beam: Int[Tensor, "n some"], token: Int[Tensor, "n some"], logprob: Float[Tensor, "n some"]
    ) -> tuple[Int[Tensor, "n some pos"], Float[Tensor, "n some pos"]]:
        """Beams of each row with a token behind them."""
        at = torch.arange(len(self.rows), device=beam.device)[:, None]
        ids = torch.cat([self.ids[at, beam], token[..., None]], -1)
        return ids, torch.cat([self.logprobs[at, beam], logprob[..., None]], -1)


class _Best:
    """The likeliest finished response of each row, and an unfinished one where the cap comes first."""

    def __init__(self, rows: int, width: int, pad_id: int, device: torch.device) -> None:
        self.score = torch.full((rows,), -torch.inf, device=device, dtype=torch.float32)
        self.ids = torch.full((rows, width), pad_id, device=device)
        self.logprobs = torch.zeros(rows, width, device=device, dtype=torch.float32)
        self.length = torch.zeros(rows, dtype=torch.long, device=device)
        self.finished = torch.zeros(rows, dtype=torch.bool, device=device)

    def offer(self, rows: Tensor, ids: Tensor, logprobs: Tensor, finished: bool) -> None:
        """Take one response ``[n, pos]`` of each row where it is likelier than the one that is there."""
        score, length = logprobs.sum(-1), ids.shape[1]
        better = score > self.score[rows] if finished else ~self.finished[rows]
        rows = rows[better]
        self.score[rows], self.length[rows], self.finished[rows] = score[better], length, finished
        self.ids[rows, :length], self.logprobs[rows, :length] = ids[better], logprobs[better]

    def responses(self, pad_id: int) -> Responses:
        """What was kept; places behind the end of a shorter response are cleared."""
        width = int(self.length.max())
        mask = torch.arange(width, device=self.length.device) < self.length[:, None]
        ids = self.ids[:, :width].masked_fill(~mask, pad_id)
        return Responses(ids, mask, self.logprobs[:, :width].masked_fill(~mask, 0.0), self.finished)


def search_responses(
    step: Step, embed: Callable[[Tensor], Tensor], prompts: Prompts, sampling: SamplingConfig, pad_id: int
) -> Responses:  # fmt: skip
    """The response of each row with the highest sum of log-probabilities that a beam search finds.

    At every token each row keeps its ``beams`` likeliest beginnings. A row is done when no beginning is likelier than
    its best finished response: probabilities only fall. No length is favoured (``length_penalty=0`` of transformers).

    Args:
        step: one forward pass of the model.
        embed: token ids ``[n, 1]`` to embeddings ``[n, 1, d_model]``.
        prompts: of the rows.
        sampling: cap, end tokens and number of beams.
        pad_id: fills the rows that ended early.
    """
    cache, logits = read_prompts(step, prompts, 1)
    count, device = len(logits), logits.device
    best = _Best(count, sampling.max_new_tokens, pad_id, device)
    ends = torch.tensor(sampling.end_ids, device=device, dtype=torch.long)
    empty = torch.zeros(count, 1, 0, device=device, dtype=torch.float32)
    alive = _Beams(torch.arange(count, device=device), empty.long(), empty)
    for place in range(sampling.max_new_tokens):
        alive, source = _step(alive, logits, sampling.beams, ends, best)
        if place + 1 == sampling.max_new_tokens:
            best.offer(alive.rows, alive.ids[:, 0], alive.logprobs[:, 0], finished=False)
            break
        going = alive.scores()[:, 0] > best.score[alive.rows]
        alive, source = alive.kept(going), source[going]
        if not len(alive.rows):
            break
        cache.batch_select_indices(source.flatten())
        logits = step(embed(alive.ids[:, :, -1].reshape(-1, 1)), cache)
    return best.responses(pad_id)


def _step(
    alive: _Beams, logits: Float[Tensor, "rows vocab"], beams: int, ends: Tensor, best: _Best
) -> tuple[_Beams, Int[Tensor, "n beams"]]:
    """Each row's likeliest unfinished beginnings with one more token, and the row of the cache that each goes on from.

    The likeliest finished one is offered to ``best``. A beginning ends in as many ways as there are end tokens. So
    among ``beams * (ends + 1)`` of a row at least ``beams`` go on.
    """
    count, old = alive.ids.shape[:2]
    each = torch.log_softmax(logits.float(), -1).view(count, old, -1)
    vocab = each.shape[-1]
    scores = (alive.scores()[..., None] + each).flatten(1)
    top = scores.topk(min(beams * (len(ends) + 1), scores.shape[1]), dim=1)
    beam, token = top.indices // vocab, top.indices % vocab
    logprob = each.flatten(1).gather(1, top.indices)
    ended = torch.isin(token, ends)
    ids, logprobs = alive.extended(beam, token, logprob)
    first = ended.int().argmax(1)
    some, at = ended.any(1), torch.arange(count, device=logits.device)
    best.offer(alive.rows[some], ids[at, first][some], logprobs[at, first][some], finished=True)
    order = ended.int().argsort(dim=1, stable=True)[:, : min(beams, int((~ended).sum(1).min()))]
    source = at[:, None] * old + beam.gather(1, order)
    return _Beams(alive.rows, ids[at[:, None], order], logprobs[at[:, None], order]), source
