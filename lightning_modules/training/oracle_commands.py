"""What the command line does with diff oracles: ``fit-oracle`` trains one, ``evaluate`` its controls, too."""

from dataclasses import dataclass, replace
from pathlib import Path

from lightning_modules.data.oracle_config import SMALL
from lightning_modules.training.oracle_arms import build_oracle
from lightning_modules.training.oracle_recipe import OracleRecipe, TrainedOracle, train_oracle
from lightning_modules.training.stages import Tell
from lightning_modules.training.word_stage import fit_words
from tl_nla.benchmark.oracle_health import check_oracle
from tl_nla.benchmark.oracle_suite import ScoredOracles
from tl_nla.data import Document, jsonl_documents, load_documents, split_documents, text_file_documents
from tl_nla.data.lines import JSON_SUFFIXES
from tl_nla.errors import InputError, unknown
from tl_nla.model.placement import Placement
from tl_nla.model.targets import load_target, model_folder
from tl_nla.oracle import DiffOracle
from tl_nla.oracle.words import WordOracle

METHODS = ("words", "trained")


@dataclass(frozen=True)
class OracleOptions:
    """What a command's user may say about the training of an oracle.

    Attributes:
        texts: text or JSON-lines file; stories when ``None``.
        documents: how many are trained on.
        steps: of the reader's stage and of the reconstructor's.
        precision: of matrix products: ``"highest"`` (default), ``"high"`` or ``"medium"``.
        dtype: precision of the model that is explained.
        device: of that model, and of the parts that are trained; ``"cpu"`` when ``None``.
        quantization: of that model, see :func:`tl_nla.load`.
        prepend_bos: see :func:`tl_nla.model.targets.load_target`.
        injection_char: the oracle's marker; one is chosen, or added, when ``None``.
        keep: folder in which stages are kept, and gone on with.
        tell: hears which stage is running, and how far it is.
        method: ``"words"`` fits words in closed form; ``"trained"`` trains a verbalizer and a reconstructor made from
            the model, which also answer what was read and what a skip changes.
    """

    texts: str | None = None
    documents: int | None = None
    steps: int | None = None
    precision: str | None = None
    dtype: str = "float32"
    device: str | None = None
    quantization: str | None = None
    prepend_bos: bool | None = None
    injection_char: str | None = None
    keep: Path | None = None
    tell: Tell | None = None
    method: str = "words"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        for name, value in (("--documents", self.documents), ("--steps", self.steps)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; at least 1 is needed")


def fit_oracle(model: str, out: Path, options: OracleOptions | None = None) -> TrainedOracle:
    """Train a diff oracle on a model and save it; the same call goes on with what was interrupted.

    Raises:
        InputError: for texts too few, a model that no oracle can be made for, or a folder that cannot be replaced.
    """
    options = options or OracleOptions()
    if options.method == "words":
        WordOracle.check_saving(out)
    else:
        DiffOracle.check_saving(out)
    recipe = recipe_of(model, options)
    trained = fit_words(recipe) if options.method == "words" else train_oracle(recipe)
    trained.oracle.save_pretrained(out)
    return trained


def complaints_of(trained: TrainedOracle) -> list[str]:
    """What is wrong with the words of an oracle that was just trained; see :mod:`tl_nla.benchmark.oracle_health`."""
    data = trained.data
    return check_oracle(trained.oracle, data.train, data.held, data.untrained)


def train_and_score(model: str, oracle: Path | None = None, options: OracleOptions | None = None) -> ScoredOracles:
    """Train an oracle and the readers of its controls, and score them all."""
    if oracle is not None:
        DiffOracle.check_saving(oracle)
    recipe = recipe_of(model, options or OracleOptions())
    built, rows = build_oracle(recipe)
    if oracle is not None:
        built.save_pretrained(oracle)
    steps = recipe.config.lengths
    lengths = f"{steps.verbalizer} steps of the verbalizer, {steps.reconstructor} steps of each reconstructor"
    source = f"an oracle trained now: {lengths}"
    return ScoredOracles(model, [rows], source)


def recipe_of(model: str, options: OracleOptions) -> OracleRecipe:
    """The recipe of a command: the small budget ``SMALL``, but for what its user says.

    Raises:
        InputError: for texts too few, or a model that cannot be loaded.
    """
    sizes, lengths = SMALL.sizes, SMALL.lengths
    train, held = _documents(options.texts, options.documents or sizes.documents, sizes.held_documents)
    sizes = replace(sizes, skip_documents=max(1, min(sizes.skip_documents, len(train) // 3)))
    if options.steps is not None:
        lengths = replace(lengths, verbalizer=options.steps, reconstructor=options.steps)
    config = replace(
        SMALL, sizes=sizes, lengths=lengths, precision=options.precision or SMALL.precision,
        device=options.device or SMALL.device, injection_char=options.injection_char,
    )  # fmt: skip
    target = load_target(
        model, options.prepend_bos, Placement(options.dtype, options.device, quantization=options.quantization)
    )
    return OracleRecipe(target, model_folder(model), train, held, config, 0, options.keep, tell=options.tell)


def _documents(texts: str | None, count: int, most: int) -> tuple[list[Document], list[Document]]:
    """Training and held-out documents."""
    if texts is None:
        return load_documents("world", count, 0), load_documents("world", max(4, min(most, count // 4)), 1)
    read = jsonl_documents if texts.endswith(JSON_SUFFIXES) else text_file_documents
    train, held = split_documents(read(texts, limit=count), 0.15)
    if len(held[:most]) < 2 or not train:
        raise InputError(f"{texts} gives {len(train)} documents to train on and {len(held)} held out; give more")
    return train, held[:most]
