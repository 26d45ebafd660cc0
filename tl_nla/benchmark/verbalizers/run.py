"""The whole benchmark from names: model, verbalizer, oracle, texts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tl_nla.benchmark.verbalizers.board import set_up
from tl_nla.benchmark.verbalizers.config import BenchmarkConfig, Known
from tl_nla.benchmark.verbalizers.runner import Outcome, check_kept, run_board
from tl_nla.benchmark.verbalizers.subject import capture_subject
from tl_nla.benchmark.verbalizers.tasks.planted import english_facts
from tl_nla.benchmark.verbalizers.verbalizer import as_verbalizer
from tl_nla.benchmark.verbalizers.write_board import run_writes
from tl_nla.benchmark.verbalizers.writes import capture_write_subject
from tl_nla.data import Document, load_documents
from tl_nla.errors import InputError
from tl_nla.faithfulness.grammar import NO_GRAMMAR, grammar_for
from tl_nla.model.loading import load_causal_lm
from tl_nla.model.placement import Placement
from tl_nla.model.targets import Target, load_target, model_folder, usual_precision
from tl_nla.plugins import embedded, part

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
        nla: whatever :func:`tl_nla.benchmark.verbalizers.as_verbalizer` takes; the embedded pair when ``None``.
        oracle: a :class:`tl_nla.DiffOracle`, its folder, or a function from writes and states to texts; its tasks are
            left out when ``None``.
        texts: file of texts that nothing was trained on; not needed for an embedded model.
        layer: K, where the verbalizer does not say.
        reader_model: the language model that reads, which needs the target's tokenizer; the target's own base when
            ``None``.
        judge: another blind reader, whose agreement is reported.
        keep: folder of parts; the same call goes on from them.
        prepend_bos: see :func:`tl_nla.model.targets.load_target`.
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


def run_benchmark(what: Benchmark, config: BenchmarkConfig | None = None) -> list[Outcome]:
    """Benchmark a verbalizer, and an oracle where one is given.

    Args:
        what: model, verbalizer, texts.
        config: how; the defaults when ``None``.

    Returns:
        One outcome for the verbalizer, and one for the oracle.

    Raises:
        InputError: when something is missing or does not fit.

    Example:
        >>> [outcome] = run_benchmark(Benchmark("tiny"))
        >>> outcome.unmasked
        True
    """
    config, plugin = config or BenchmarkConfig(), embedded(what.model)
    given = what.nla
    if given is None:
        if plugin is None:
            raise InputError(f"--model {what.model!r} brings no verbalizer: give --nla AV AR, or --nla FOLDER")
        given = [part(what.model, "av"), part(what.model, "ar")]
    settings = {**asdict(config), "model": what.model, "nla": str(what.nla), "texts": str(what.texts),
                "layer": what.layer, "oracle": str(what.oracle), "reader_model": what.reader_model}  # fmt: skip
    check_kept(what.keep, settings)
    documents = _documents(what, config, plugin)
    target = load_target(what.model, what.prepend_bos)
    verbalizer = as_verbalizer(given, what.layer, "embedded pair" if what.nla is None else None, _dtype(what))
    if verbalizer.layer is None:
        raise InputError("the verbalizer does not say which layer it reads; give --layer K")
    if not 0 <= verbalizer.layer < int(target.model.cfg.n_layers):
        raise InputError(
            f"layer {verbalizer.layer}: {what.model!r} has layers 0 to {int(target.model.cfg.n_layers) - 1}"
        )
    placement = Placement(usual_precision(what.model, "float32"))
    language_model = load_causal_lm(model_folder(what.reader_model or what.model), placement=placement).eval()
    known = _known(what, config, plugin, verbalizer.layer, documents)
    with grammar_for(known.grammar or NO_GRAMMAR):
        subject = capture_subject(target, verbalizer.layer, documents, config.sizes, config.seed, known.explainer)
        board = set_up(subject, verbalizer, language_model, config, known, what.keep)
        outcomes = [run_board(board, verbalizer, config, known, what.keep)]
    if what.oracle is not None:
        outcomes.append(_oracle(what, config, target, language_model, documents))
    return outcomes


def _dtype(what: Benchmark) -> torch.dtype | None:
    """Precision of verbalizers that are loaded: what this machine runs fastest, for a named model."""
    return Placement(usual_precision(what.model, "float32")).torch_dtype


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


def _oracle(
    what: Benchmark, config: BenchmarkConfig, target: Target, language_model: Any, documents: Sequence[Document]
) -> Outcome:
    from tl_nla.oracle import DiffOracle

    oracle = DiffOracle.from_pretrained(what.oracle) if isinstance(what.oracle, str | Path) else what.oracle
    plugin = embedded(what.model)
    vocabulary = None if plugin is None else plugin.vocabulary(target.model, target.tokenizer)
    subject = capture_write_subject(target, documents, config.sizes, config.seed, vocabulary)
    outcome = run_writes(subject, oracle, language_model, config, None if what.keep is None else what.keep / "writes")
    name = Path(what.oracle).name if isinstance(what.oracle, str | Path) else "oracle"
    return replace(outcome, verbalizer=name)
