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
from tl_nla.benchmark.verbalizers.verbalizer import Verbalizer, as_verbalizer
from tl_nla.benchmark.verbalizers.write_board import run_writes
from tl_nla.benchmark.verbalizers.writes import capture_write_subject
from tl_nla.data import Document, load_documents
from tl_nla.errors import InputError
from tl_nla.faithfulness.grammar import NO_GRAMMAR, grammar_for
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.placement import Placement
from tl_nla.model.processor import MATRIX_UNIT, VECTOR_UNIT, processor_units
from tl_nla.model.targets import Target, load_target, model_folder, usual_precision
from tl_nla.plugins import embedded, named, part

_STREAM, _WAYS = 5000, 1000
_SPARE = 1.6
"""Texts that are read for each one that is needed: some are too short."""
_MORE = 4
"""Times as many are read from a file, of which the private seed takes some."""
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
    config, plugin = config or BenchmarkConfig(), embedded(what.model)
    if what.nla is None and plugin is None and getattr(named(what.model), "nla", None) is None:
        raise InputError(f"--model {what.model!r} brings no verbalizer: give --nla AV AR, or --nla FOLDER")
    documents, placement = _documents(what, config, plugin), Placement(_precision(what))
    target = load_target(what.model, what.prepend_bos, placement)
    verbalizer = _verbalizer(what, target, placement)
    if verbalizer.layer is None:
        raise InputError("the verbalizer does not say which layer it reads; give --layer K")
    if not 0 <= verbalizer.layer < int(target.model.cfg.n_layers):
        raise InputError(
            f"layer {verbalizer.layer}: {what.model!r} has layers 0 to {int(target.model.cfg.n_layers) - 1}"
        )
    settings = {**asdict(config), "model": what.model, "nla": _label(what.nla), "weights": verbalizer.mark,
                "texts": str(what.texts), "layer": what.layer, "oracle": _label(what.oracle),
                "reader_model": what.reader_model, "dtype": placement.dtype}  # fmt: skip
    check_kept(what.keep, settings)
    if what.texts is not None:
        documents = cut_texts(documents, target.tokenizer, config.sizes.longest)
    language_model = load_causal_lm(model_folder(what.reader_model or what.model), placement=placement).eval()
    known = _known(what, config, plugin, verbalizer.layer, documents)
    with grammar_for(known.grammar or NO_GRAMMAR):
        subject = capture_subject(target, verbalizer.layer, documents, config.sizes, config.seed, known.explainer)
        board = set_up(subject, verbalizer, language_model, config, known, what.keep)
        outcomes = [run_board(board, verbalizer, config, known, what.keep)]
    del board, subject
    writes = _writes(what, config, target, language_model, documents)
    return outcomes if writes is None else [*outcomes, writes]


def _precision(what: Benchmark) -> str:
    fast = named(what.model) is not None and {VECTOR_UNIT, MATRIX_UNIT} & set(processor_units())
    return what.dtype or ("bfloat16" if fast else usual_precision(what.model, "float32"))


def _verbalizer(what: Benchmark, target: Target, placement: Placement) -> Verbalizer:
    given, name = what.nla, None
    if given is None and embedded(what.model) is not None:
        given, name = [part(what.model, one) for one in ("av", "ar")], "embedded pair"
    elif given is None:
        given, name = named(what.model).nla(target.model), "shipped pair"  # type: ignore[union-attr]
    return as_verbalizer(given, what.layer, name, placement.torch_dtype)


def _label(given: Any) -> str:
    """What was given, in words that are the same in the next run; an object by its name only."""
    if given is None or isinstance(given, str | Path | list | tuple):
        return str(given)
    return str(getattr(given, "__name__", type(given).__name__))


def _documents(what: Benchmark, config: BenchmarkConfig, plugin: Any) -> Sequence[Document]:
    sizes = config.sizes
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


def _known(
    what: Benchmark, config: BenchmarkConfig, plugin: Any, layer: int, documents: Sequence[Document]
) -> Known:  # fmt: skip
    many, own_texts = _ASKED * config.sizes.planted, what.texts is None
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
    vocabulary = None if plugin is None else plugin.vocabulary(target.model, target.tokenizer)
    subject = capture_write_subject(target, documents, config.sizes, config.seed, vocabulary)
    outcome = run_writes(subject, oracle, language_model, config, None if what.keep is None else what.keep / "writes")
    return replace(outcome, verbalizer=name)


def _oracle(what: Benchmark, target: Target) -> tuple[Any, str]:
    """The oracle that is asked for, or the model's own; ``None`` where it has none."""
    from tl_nla.oracle import DiffOracle

    given, plugin = what.oracle, named(what.model)
    if given is None and embedded(what.model) is not None:
        return DiffOracle.from_pretrained(part(what.model, "oracle")), "embedded oracle"
    if given is None:
        return (plugin.oracle(target.model) if hasattr(plugin, "oracle") else None), "shipped oracle"
    if isinstance(given, str | Path):
        return DiffOracle.from_pretrained(given), Path(given).name
    return given, "oracle"
