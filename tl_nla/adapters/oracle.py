"""An adapter that asks an activation oracle about the states that a model computes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Int
from torch import Tensor

from tl_nla.adapters.reading import ReadingAdapter, joined
from tl_nla.adapters.stream import Generated
from tl_nla.errors import InputError
from tl_nla.model.positions import Positions
from tl_nla.model.reading import Reading
from tl_nla.model.sites import Site
from tl_nla.nla.activation_oracle import ActivationOracle, Asking
from tl_nla.notebook import Rows, Shown

_GREEDY = Asking()


@dataclass(frozen=True)
class OracleAnswer(Shown):
    """One answer about a state, a difference, or several positions together.

    Attributes:
        site: where it was read; several sites of a multi-layer oracle joined by a comma.
        batch: row of the batch.
        positions: numbers among the row's tokens.
        tokens: the tokens there, decoded; ``None`` where the ids or the tokenizer are not known.
        question: what was asked.
        text: the answer.
        untrained: the answer of the same model without its adapter to the same prompt with the same vectors. ``None``
            where the controls were not asked for, or the oracle has no adapter.
        black_box: the answer of the model without its adapter to the row's text up to there, without vectors.
    """

    site: str
    batch: int
    positions: tuple[int, ...]
    tokens: tuple[str | None, ...]
    question: str
    text: str
    untrained: str | None = None
    black_box: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, for tables and JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Case:
    """What is asked about at once: rows of the reading, and the sites of each."""

    site: str
    layers: tuple[int, ...]
    rows: list[int]
    values: list[Tensor] = field(repr=False)


class ActivationOracleAdapter(ReadingAdapter):
    """Asks an activation oracle about whatever the model runs, at the chosen positions.

    ::

        adapter = ActivationOracleAdapter(oracle, "blocks.18.hook_resid_post", positions=-1)
        with attach(model, adapter):
            model(tokens)
        for answer in adapter.ask("Which language is this?", controls=True):
            ...

    Args:
        oracle: as from :meth:`tl_nla.ActivationOracle.from_pretrained`.
        site: a state, a write, or a difference of two states such as
            ``"blocks.3.hook_resid_pre -> blocks.9.hook_resid_post"``. Several sites are asked about one by one; a
            multi-layer oracle needs one of each of its layers, and is asked about all at once.
        positions: see :class:`tl_nla.adapters.ReadingAdapter`.
        generated: whether generated tokens are read.
        attention_mask: of the prompt.
    """

    def __init__(
        self, oracle: ActivationOracle, site: Site | str | Sequence[Site | str], positions: Positions = -1,
        generated: Generated = False, attention_mask: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__(site, positions, generated, attention_mask)
        self.oracle = oracle

    def _explainer(self) -> tuple[Any, str, tuple[str, ...]]:
        """Refuses what answers no questions, and a model of another width."""
        return (self.oracle, "the activation oracle reads states", ("ask", "ask_text"))

    def ask(
        self, question: str | None = None, together: bool = False, controls: bool = False,
        tokens: Int[Tensor, "batch pos"] | None = None, asking: Asking = _GREEDY,
    ) -> list[OracleAnswer]:  # fmt: skip
        """Ask about everything that was read, in batches.

        Args:
            question: what is asked; the oracle's own question when ``None``.
            together: put all positions of a row into one prompt, one slot each, instead of asking about each.
            controls: also ask the untrained base and the black box that sees only the text.
            tokens: ids of all rows, to name the tokens on a ``HookedTransformer``; a bridge shows them to the adapter.
            asking: cap, temperature, generator, batch size.

        Returns:
            One answer for each site, row and position (or row), in that order.

        Raises:
            InputError: when nothing was read, a site has no layer, or the oracle refuses the states or the layer. For
                the black box also where the ids or the tokenizer are not known.
        """
        reading = self.reading(tokens)
        answers = []
        for group in self._groups(reading, together):
            layers = group[0].layers[0] if len(group[0].layers) == 1 else group[0].layers
            states = [value for case in group for value in case.values]
            found = self.oracle.ask(states, question, layers, asking)
            base = self._untrained(states, question, layers, asking) if controls else [None] * len(found)
            asked = question if question is not None else str(self.oracle.protocol.question)
            texts = self._black_box(reading, group, asked, asking) if controls else [None] * len(found)
            told = zip(group, found, base, texts, strict=True)
            answers += [self._answer(reading, case, asked, *rest) for case, *rest in told]
        return Rows(answers)

    def results(self) -> Any:
        """Answers to the oracle's own question; see :meth:`ask`."""
        return self.ask()

    def _groups(self, reading: Reading, together: bool) -> list[list[_Case]]:
        """Cases that are asked in one call: one site each, or all sites of a multi-layer oracle."""
        combinations = self.oracle.layers
        several = bool(combinations) and len(combinations[0]) > 1
        sites = [list(self.sites)] if several else [[site] for site in self.sites]
        batch = reading.batch.tolist()
        parts = [[n for n, row in enumerate(batch) if row == wanted] for wanted in dict.fromkeys(batch)]
        rows = parts if together else [[number] for number in range(len(batch))]
        groups = []
        for listed in sites:
            layers, name = tuple(_layer_of(site) for site in listed), ", ".join(map(str, listed))
            values = [reading.precise(site) for site in listed]
            groups.append([_Case(name, layers, part, [joined([value[part] for value in values])]) for part in rows])
        return groups

    def _untrained(self, states: list[Tensor], question: str | None, layers: Any, asking: Asking) -> list[Any]:
        from tl_nla.model.families import is_adapted

        if not is_adapted(self.oracle.model):
            return [None] * len(states)
        with self.oracle.untrained():
            return list(self.oracle.ask(states, question, layers, asking))

    def _black_box(self, reading: Reading, group: list[_Case], question: str, asking: Asking) -> list[str]:
        tokenizer = getattr(self._model, "tokenizer", None)
        texts = []
        for case in group:
            last = case.rows[-1]
            ids = reading.tokens[int(reading.batch[last]), : int(reading.column[last]) + 1].tolist()
            if tokenizer is None or min(ids) < 0:
                raise InputError("the black box needs the text: give tokens=, and a model with a tokenizer")
            texts.append(tokenizer.decode(ids, skip_special_tokens=True))
        return self.oracle.ask_text(texts, question or "What is this about?", asking)

    def _answer(self, reading: Reading, case: _Case, question: str, text: str, base: Any, black: Any) -> OracleAnswer:
        tokenizer, row = getattr(self._model, "tokenizer", None), int(reading.batch[case.rows[0]])
        ids = [int(reading.tokens[row, int(reading.column[number])]) for number in case.rows]
        words = tuple(None if tokenizer is None or one < 0 else str(tokenizer.decode([one])) for one in ids)
        positions = tuple(int(reading.position[number]) for number in case.rows)
        return OracleAnswer(case.site, row, positions, words, question, text, base, black)


def _layer_of(site: Site) -> int:
    """K for an oracle: the block whose output a state is; the last block of a difference or a write."""
    if site.kind == "span" and site.end is not None:
        return _layer_of(site.end)
    if site.layer is None:
        raise InputError(f"{site} is of no block; oracles are told the layer of a state")
    before = site.kind == "state" and str(site.point).endswith("hook_resid_pre")
    if before and site.layer == 0:
        raise InputError(f"{site} is of no block's output; read hook_resid_post of a block")
    return site.layer - int(before)
