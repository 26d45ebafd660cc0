"""The whole benchmark from names: model, verbalizer, oracle, texts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tl_nla.benchmark.verbalizers.board import set_up
from tl_nla.benchmark.verbalizers.config import BenchmarkConfig, Known
from tl_nla.benchmark.verbalizers.runner import Outcome, check_kept, run_board
from tl_nla.benchmark.verbalizers.subject import capture_subject, cut_texts
from tl_nla.benchmark.verbalizers.tasks.planted import english_facts
from tl_nla.benchmark.verbalizers.verbalizer import Verbalizer, as_verbalizer, weights_mark
from tl_nla.benchmark.verbalizers.write_board import run_writes
from tl_nla.benchmark.verbalizers.writes import capture_write_subject
from tl_nla.data import Document, load_documents
from tl_nla.errors import InputError, unknown
from tl_nla.faithfulness.grammar import NO_GRAMMAR, grammar_for
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.placement import Placement
from tl_nla.model.targets import Target, load_target, model_folder, reading_precision
from tl_nla.plugins import embedded, named, part

_STREAM, _WAYS = 5000, 1000
_SPARE = 1.6
"""Texts that are read for each one that is needed: some are too short."""
_MORE = 4
"""Times as many are read from a file, of which the private seed takes some."""
PARTS = ("states", "writes")
_ASKED = 2
"""Planted facts that are tried for each one that is asked: some the model does not know."""


@dataclass(frozen=True)
class Benchmark:
    """What is benchmarked, by name or as objects.

    Attributes:
        model: ``"tiny"``, ``"smollm2"``, a folder or a hub id.
        nla: whatever :func:`tl_nla.benchmark.verbalizers.as_verbalizer` takes; the model's own
            (embedded or shipped) pair when ``None``.
        oracle: a :class:`tl_nla.DiffOracle`, its folder, or a function from writes and states to texts; its tasks are
            left out when ``None`` beside an ``nla``; the model's own (embedded or shipped) when both are ``None``.
        texts: file of texts that nothing was trained on; not needed for an embedded model.
        layer: K, where the verbalizer does not say.
        reader_model: the language model that reads, which needs the target's tokenizer; the target's own base when
            ``None``.
        judge: another blind reader, whose agreement is reported.
        keep: folder of parts; the same call goes on from them.
        prepend_bos: see :func:`tl_nla.model.targets.load_target`.
        dtype: precision of the model and of all that is loaded. When ``None``, float32, or for a named model bfloat16
            where the processor has units for it.
        only: ``"states"`` or ``"writes"`` for the verbalizer's or the oracle's part alone; both when ``None``.

    Raises:
        InputError: for another part.
    """

    model: str = "tiny"
    nla: Any = None
    oracle: Any = None
    texts: str | Path | None = None
    layer: int | None = None
    reader_model: str | None = None
    judge: Any = None
    keep: Path | None = None
    prepend_bos: bool | None = None
    dtype: str | None = None
    only: str | None = None

    def __post_init__(self) -> None:
        if self.only is not None and self.only not in PARTS:
            raise unknown("part", self.only, PARTS)


def run_benchmark(what: Benchmark, config: BenchmarkConfig | None = None) -> list[Outcome]:
    """Benchmark a verbalizer, and an oracle where there is one.

    Args:
        what: model, verbalizer, texts.
        config: how; the defaults when ``None``.

    Returns:
        One outcome for the verbalizer, and one for the oracle.

    Raises:
        InputError: when something is missing or does not fit.

    Example:
        >>> states, writes = run_benchmark(Benchmark("tiny"))
        >>> states.unmasked
        True
    """
    config, placement = config or BenchmarkConfig(), Placement(_precision(what))
    if what.nla is None and embedded(what.model) is None and getattr(named(what.model), "nla", None) is None:
        raise InputError(f"--model {what.model!r} brings no verbalizer: give --nla AV AR, or --nla FOLDER")
    documents = _documents(what, config)
    target = load_target(what.model, what.prepend_bos, placement)
    if what.texts is not None:
        documents = cut_texts(documents, target.tokenizer, config.sizes.longest)
    language_model = load_causal_lm(model_folder(what.reader_model or what.model), placement=placement).eval()
    # In turn: what the first part holds is gone before the second begins.
    outcomes = [] if what.only == "writes" else [_states(what, config, target, language_model, documents)]
    writes = None if what.only == "states" else _writes(what, config, target, language_model, documents)
    return outcomes if writes is None else [*outcomes, writes]


def _states(
    what: Benchmark, config: BenchmarkConfig, target: Target, language_model: Any, documents: Sequence[Document]
) -> Outcome:
    verbalizer = _verbalizer(what, target)
    if verbalizer.layer is None:
        raise InputError("the verbalizer does not say which layer it reads; give --layer K")
    if not 0 <= verbalizer.layer < int(target.model.cfg.n_layers):
        raise InputError(
            f"layer {verbalizer.layer}: {what.model!r} has layers 0 to {int(target.model.cfg.n_layers) - 1}"
        )
    own = {"nla": _label(what.nla), "weights": verbalizer.mark, "layer": what.layer}
    keep = _keep(what, config, "states", own)
    known = _known(what, config, verbalizer.layer, documents)
    with grammar_for(known.grammar or NO_GRAMMAR):
        subject = capture_subject(target, verbalizer.layer, documents, config.sizes, config.seed, known.explainer)
        board = set_up(subject, verbalizer, language_model, config, known, keep)
        return run_board(board, verbalizer, config, known, keep)


def _keep(what: Benchmark, config: BenchmarkConfig, name: str, own: dict[str, Any]) -> Path | None:
    """Folder of one part, checked to hold nothing of other settings."""
    keep = None if what.keep is None else what.keep / name
    settings = {**asdict(config), "model": what.model, "texts": str(what.texts), "reader_model": what.reader_model,
                "dtype": _precision(what), **own}  # fmt: skip
    check_kept(keep, settings)
    return keep


def _precision(what: Benchmark) -> str:
    return what.dtype or reading_precision(what.model)


def _verbalizer(what: Benchmark, target: Target) -> Verbalizer:
    given, name = what.nla, None
    if given is None and embedded(what.model) is not None:
        given, name = [part(what.model, one) for one in ("av", "ar")], "embedded pair"
    elif given is None:
        given, name = named(what.model).nla(target.model), "shipped pair"  # type: ignore[union-attr]
    return as_verbalizer(given, what.layer, name, Placement(_precision(what)).torch_dtype)


def _label(given: Any) -> str:
    """What was given, in words that are the same in the next run; an object by its name only."""
    if given is None or isinstance(given, str | Path | list | tuple):
        return str(given)
    return str(getattr(given, "__name__", type(given).__name__))


def _documents(what: Benchmark, config: BenchmarkConfig) -> Sequence[Document]:
    sizes, plugin = config.sizes, embedded(what.model)
    wanted = round(_SPARE * (sizes.train + sizes.calibration + sizes.test))
    if what.texts is not None:
        # More than are needed, so that the private seed decides which are read.
        return load_documents(str(what.texts), _MORE * wanted)
    if plugin is None:
        raise InputError(
            f"--model {what.model!r} brings no texts: give --texts FILE, texts that nothing was trained on"
        )
    found: Sequence[Document] = plugin.documents(wanted, plugin.HELD_OUT_SEED, _STREAM * (config.seed % _WAYS))
    return found


def _known(what: Benchmark, config: BenchmarkConfig, layer: int, documents: Sequence[Document]) -> Known:
    many, own_texts, plugin = _ASKED * config.sizes.planted, what.texts is None, embedded(what.model)
    if plugin is None or not own_texts:
        return Known(planted=english_facts(documents, many, config.seed), judge=what.judge)
    site = f"blocks.{layer}.hook_resid_post"
    return Known(plugin.explainer(site), plugin.GRAMMAR, plugin.planted(many, config.seed), what.judge)


def _writes(
    what: Benchmark, config: BenchmarkConfig, target: Target, language_model: Any, documents: Sequence[Document]
) -> Outcome | None:
    plugin, own = embedded(what.model), what.nla is None and what.oracle is None
    if what.oracle is None and not own:
        return None
    if next(target.model.parameters()).dtype != torch.float32:
        # Effects of single writes are small differences of logits, which bfloat16 rounds away.
        target = load_target(what.model, what.prepend_bos, Placement("float32"))
    oracle, name = _oracle(what, target)
    if oracle is None:
        return None
    made = getattr(oracle, "made", "") or weights_mark(getattr(oracle, "verbalizer", None))
    keep = _keep(what, config, "writes", {"oracle": _label(what.oracle), "weights": str(made)})
    vocabulary = None if plugin is None else plugin.vocabulary(target.model, target.tokenizer)
    subject = capture_write_subject(target, documents, config.sizes, config.seed, vocabulary)
    outcome = run_writes(subject, oracle, language_model, config, keep)
    return replace(outcome, verbalizer=name)


def _oracle(what: Benchmark, target: Target) -> tuple[Any, str]:
    """The oracle that is asked for, or the model's own; ``None`` where it has none."""
    from tl_nla.oracle import DiffOracle

    given, plugin = what.oracle, named(what.model)
    if given is None and embedded(what.model) is not None:
        return DiffOracle.from_pretrained(part(what.model, "oracle")), "embedded oracle"
    if given is None:
        return (None if plugin is None else plugin.oracle(target.model)), "shipped oracle"
    if isinstance(given, str | Path):
        return DiffOracle.from_pretrained(given), Path(given).name
    return given, "oracle"
