"""From a model and a prompt to the contribution report."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tl_nla.adapters.base import refuse_unfit
from tl_nla.attribution.capture import capture
from tl_nla.attribution.components import all_components
from tl_nla.attribution.direct import Asked, DirectAttribution, attribute_run
from tl_nla.attribution.left_out import may_keep_columns
from tl_nla.attribution.run_writes import RunWrites
from tl_nla.errors import InputError, unknown
from tl_nla.model.facts import facts_of
from tl_nla.model.positions import Positions, select_positions
from tl_nla.model.sites import Site
from tl_nla.oracle.labels import Vocabulary, whole_words
from tl_nla.reports.collector import only_new_collected
from tl_nla.reports.contribution_cells import cells_of, short
from tl_nla.reports.contribution_inputs import prompt_ids, target_ids
from tl_nla.reports.contribution_skips import Skips, skips_of
from tl_nla.reports.contribution_words import ReadWatch, Wording, Words, words_of
from tl_nla.reports.progress import patient
from tl_nla.reports.report import ContributionReport
from tl_nla.reports.report_config import ReportConfig, Tell

KINDS = ("head", "attn", "mixer", "mlp", "ple", "block")
_PREDICTIONS = 3


def layer_contributions(
    model: Any, tokens: Int[Tensor, "..."] | str, oracle: Any = None, target: Any = None, positions: Positions = -1,
    config: ReportConfig | None = None, **options: Any,
) -> ContributionReport:  # fmt: skip
    """What every layer and head contributed to the next-token prediction at some positions of a prompt.

    One clean pass serves everything but the skips. Their copies of the reported positions then run beside it, so that
    a report of few positions costs a few passes of the prompt.

    Args:
        model: a ``TransformerBridge`` or ``HookedTransformer`` in evaluation mode; it is left as found.
        tokens: token ids of one prompt, ``[pos]`` or ``[1, pos]``, or its text.
        oracle: a :class:`tl_nla.oracle.DiffOracle` that explains the writes; without one the explanations are labels
            computed from the model.
        target: the explained token by id or text, or ids ``[pos]``, one a column; the likeliest next one by default.
        positions: see :func:`tl_nla.model.positions.select_positions`; the last one by default.
        config: everything else, see :class:`tl_nla.reports.ReportConfig`.
        options: settings of the config by name, such as ``skips=False``; any others are for ``oracle.explain``.

    Returns:
        The report. Skips are exact and position-local; direct contributions sum to the model's own number less what is
        reported as unaccounted for.

    Raises:
        InputError: the prompt or target cannot be used, or more is unaccounted for than ``max_unaccounted``.

    Example:
        ``layer_contributions(model, "The capital of France is", against=" London", skips=False)``
    """
    config = (config or ReportConfig()).given(options, oracle)
    model = getattr(model, "_orig_mod", model)  # torch.compile's wrapper cannot be stopped and started at a block
    if oracle is not None:
        refuse_unfit(model, oracle, "the oracle reads writes", ("explain",))
    with only_new_collected(), nullcontext(config.tell) if config.tell is not None else patient() as tell:
        return _report(model, _Prompt.of(model, tokens, positions, config), oracle, target, config, tell)


def _report(
    model: Any, asked: "_Prompt", oracle: Any, target: Any, config: ReportConfig, tell: Tell
) -> ContributionReport:
    facts_of(model)  # whether the model can be run at all, before anything else
    parts = all_components(model, KINDS)
    sites = tuple(Site.parse(str(part)) for part in parts)
    tell("reading", 0.0)
    run, watch = asked.run(model, sites, config.skips)
    view = run.only(asked.columns) if run.columns is None else run
    logits = view.logits.float()
    chosen = logits.argmax(-1) if target is None else asked.ids_of(model, target, "target")
    other = None if config.against is None else asked.ids_of(model, config.against, "against")
    wanted = Asked(chosen, other, config.quantity or ("logit" if other is None else "difference"), "head")
    wanted.check(model)
    direct = attribute_run(model, view, wanted, float("inf"))
    _check_share(direct, config.max_unaccounted)
    skips = skips_of(model, asked.ids, (run, view), parts, chosen, tell) if config.skips else Skips(None, ())
    tell("putting into words", 0.8)
    named = _named(config.vocabulary, asked, int(model.W_U.shape[1]))
    wording = Wording(asked.tokenizer, oracle, config.top_k, named, config.explain)
    read = watch.read()
    words = words_of(RunWrites(model, view, sites), asked.ids, read, wording)
    tell("done", 1.0)
    return ContributionReport(
        **_heading(model, asked, logits, words), **_sums(direct),
        model=config.name or Path(str(getattr(model.cfg, "model_name", None) or type(model).__name__)).name,
        targets=words.texts_of(chosen[0]), against=() if other is None else words.texts_of(other[0]),
        cells=tuple(cells_of(parts, direct, skips.effects, asked.columns, words)),
        explained_by="labels" if oracle is None else "oracle",
        notes=(*direct.notes, *skips.notes, *read.notes), writes=words.writes,
    )  # fmt: skip


@dataclass(frozen=True)
class _Prompt:
    """The prompt of a report, and the columns that it tells of."""

    ids: Int[Tensor, "1 pos"]
    columns: list[int]
    tokenizer: Any

    @classmethod
    def of(cls, model: Any, tokens: Any, positions: Positions, config: ReportConfig) -> "_Prompt":
        tokenizer = config.tokenizer if config.tokenizer is not None else getattr(model, "tokenizer", None)
        ids = prompt_ids(model, tokens, tokenizer, config.prepend_bos)
        chosen = select_positions(ids, positions, None, tokenizer)[0]
        return cls(ids, torch.nonzero(chosen).flatten().tolist(), tokenizer)

    def run(self, model: Any, sites: tuple[Site, ...], skips: bool) -> tuple[Any, ReadWatch]:
        """The clean run, and what watched it; kept at the columns alone where that is enough."""
        few = not skips or may_keep_columns(model, self.columns, self.ids.shape[1])
        watch = ReadWatch(model, self.ids, sites, self.columns)
        pairs = [] if watch.watch is None else watch.watch.pairs
        run = capture(model, self.ids, solve=not few, columns=self.columns if few else None, also=pairs)
        if watch.watch is not None and few:
            run.sums.update(watch.watch.sums)
        return run, watch

    def ids_of(self, model: Any, token: Any, role: str) -> Int[Tensor, "1 column"]:
        """Ids of a token to explain, at the columns."""
        return target_ids(model, token, self.ids, self.tokenizer, role)[:, self.columns]


def _named(vocabulary: Any, asked: _Prompt, size: int) -> Vocabulary:
    """The tokens that may be named."""
    if vocabulary is None:
        return whole_words(asked.tokenizer, size, asked.ids[0].tolist())
    if isinstance(vocabulary, str):
        if vocabulary != "all":
            raise unknown("vocabulary", vocabulary, ("all",))
        return Vocabulary.of(asked.tokenizer, size)
    found: Vocabulary = vocabulary
    return found


def _heading(model: Any, asked: _Prompt, logits: Tensor, words: Words) -> dict[str, Any]:
    """What a report says of the prompt, and of what the model makes of it."""
    tokens, ids = words.texts_of(asked.ids[0]), asked.ids[0].tolist()
    likely = logits[0].softmax(-1).topk(min(_PREDICTIONS, logits.shape[-1]), dim=-1)
    return {
        "prompt": "".join(tokens) if asked.tokenizer is None else asked.tokenizer.decode(ids),
        "tokens": tokens, "positions": tuple(asked.columns),
        "predictions": tuple(tuple(zip(words.texts_of(row_ids), row.tolist(), strict=True)) for row_ids, row in
                             zip(likely.indices, likely.values, strict=True)),
        "n_layers": int(model.cfg.n_layers), "n_heads": int(model.cfg.n_heads),
    }  # fmt: skip


def _sums(direct: DirectAttribution) -> dict[str, Any]:
    """What is explained, and how much of it the parts leave over."""
    return {
        "target_kind": direct.quantity, "totals": tuple(direct.total[0].tolist()),
        "unaccounted": _shortened(direct.unaccounted), "unaccounted_share": _shortened(direct.unaccounted_share),
    }  # fmt: skip


def _shortened(values: Tensor) -> tuple[float, ...]:
    return tuple(short(value) for value in values[0].tolist())


def _check_share(direct: DirectAttribution, allowed: float) -> None:
    worst = max(_shortened(direct.unaccounted_share))
    if not worst <= allowed:
        raise InputError(
            f"{worst:.1%} of the range of the logits is unaccounted for ({allowed:.0%} is allowed), so this report "
            "would mislead. tl_nla.attribution.direct_attribution says what is at fault. Give max_unaccounted=1 to "
            "see it all the same"
        )
