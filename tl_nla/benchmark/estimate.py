"""Memory and passes of a reading, a capture, a report or a training, before anything is loaded."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tl_nla.amounts import check_count, check_counts
from tl_nla.errors import InputError, unknown
from tl_nla.model.files import first_line

READINGS = ("read", "report", "capture-states", "capture-writes")
TRAININGS = ("verbalizer", "reconstructor", "reward", "oracle", "oracle-reconstructor")
TASKS = (*READINGS, *TRAININGS)
MIXED = "bf16-mixed"
_PRECISIONS, _OPTIMIZERS = ("32-true", MIXED), ("adamw", "muon")


@dataclass(frozen=True)
class Workload:
    """How much is done at once.

    Attributes:
        batch_size: rows of a training batch (states or writes), or texts that are read together.
        tokens: of a text that is read; of an explanation in a training.
        prompt: tokens of a verbalizer's prompt. Ours has 75 to 110 in the tokenizers of real models.
        positions: of each text that a report tells of or a capture keeps.
        documents: of a capture.
        layer: block whose output a pair explains, from 0; that after two thirds of the model when ``None``.
        group: explanations a state (``reward``).
        sampled: responses sampled at once (``reward``); all of the batch when ``None``.
        micro_batch: rows of one backward pass (``reward``); all of them when ``None``.
        accumulate: batches whose gradients are summed up before a step.
        checkpointing: whether blocks are computed anew in the backward pass.
        reference: whether a frozen warm start is held beside a verbalizer trained without adapters (``reward``).
    """

    batch_size: int = 32
    tokens: int = 150
    prompt: int = 100
    positions: int = 1
    documents: int = 1000
    layer: int | None = None
    group: int = 8
    sampled: int | None = None
    micro_batch: int | None = None
    accumulate: int = 1
    checkpointing: bool = False
    reference: bool = True

    def __post_init__(self) -> None:
        check_counts(self, "batch_size", "tokens", "prompt", "positions", "documents", "group", "accumulate")
        check_counts(self, "sampled", "micro_batch")
        if self.layer is not None:
            check_count("layer", self.layer, 0)


@dataclass(frozen=True)
class Estimate:
    """What a task takes, in bytes of tensors; each part at its own largest, ``total`` at the fullest moment.

    Attributes:
        task: one of ``TASKS``.
        parameters: numbers in all weights that are held.
        trained: how many of them are trained.
        weights: bytes of them, buffers included.
        optimiser: state of AdamW, or of Muon.
        gradients: of what is trained, in float32.
        activations: what a pass keeps and works with; of the fullest phase, as ``logits`` is.
        cache: keys and values while explanations are sampled.
        logits: numbers over the vocabulary, their copies among them.
        total: at the fullest moment; not the sum, as the parts are not at their largest together.
        passes: forward passes of the text (readings), of each part over the whole batch in a step (trainings).
        notes: the phase that is fullest, and whatever has to be known to read the figures.
    """

    task: str
    parameters: int
    trained: int
    weights: int
    optimiser: int
    gradients: int
    activations: int
    cache: int
    logits: int
    total: int
    passes: float
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "notes": list(self.notes)}

    def to_table(self) -> str:
        """For the terminal, in GB of 10⁹ bytes."""
        names = ("weights", "optimiser", "gradients", "activations", "cache", "logits", "total")
        lines = [f"estimate of {self.task}: {self.parameters:,} parameters, {self.trained:,} trained"]
        lines += [f"  {name:<12}{getattr(self, name) / 1e9:>10.3f} GB" for name in names]
        lines.append(f"  {'passes':<12}{self.passes:>10.2f}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def fits(self, gigabytes: float) -> bool:
        """Whether the total is below a memory of so many GB (10⁹ bytes)."""
        return self.total <= gigabytes * 1e9


def estimate(
    model: Any, task: str, work: Workload | None = None, dtype: str = "float32", precision: str = "32-true",
    rank: int | None = None, optimizer: str = "adamw",
) -> Estimate:  # fmt: skip
    """Memory and passes of a task on a model, from its configuration alone.

    What is counted. Parameters, the optimiser's state and gradients are those of the model's own class, made without
    contents. Activations, logits and the cache of a training are the most bytes of tensors alive during one step. The
    step runs on tensors that have shapes and no contents. It is a forward and a backward pass with its loss, and for
    ``reward`` the last token of sampling. All explanations are as long as ``tokens`` says, which is the worst case.
    Attention is counted without its scores, as fused kernels compute it; warm starts in bfloat16 on a CPU hold them.
    Readings and captures of states are counted by such a pass, reports and captures of writes by their budgets.

    The CUDA context and the workspaces of its libraries (about 1 GB) are not counted. Nor are fragmentation of the
    allocator (a tenth is usual), and Python itself. The part of a pair that a warm start does not train and the copy of
    a checkpoint while it is written are left out. So are rows of data on the CPU where the model is on a GPU.

    Args:
        model: ``"tiny"``, ``"smollm2"``, a folder with ``config.json`` (no weights are needed), a hub id, or a
            configuration of transformers.
        task: ``read``, ``report``, ``capture-states`` or ``capture-writes``; a training: ``verbalizer`` or
            ``reconstructor`` (warm starts), ``reward`` (NLATraining), ``oracle`` or ``oracle-reconstructor``.
        work: how much is done at once.
        dtype: of weights that are read or not trained: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``,
            which is what the configuration says. What is trained is float32.
        precision: the Trainer's: ``"32-true"`` or ``"bf16-mixed"``.
        rank: of LoRA adapters; all weights are trained when ``None``.
        optimizer: ``"adamw"`` or ``"muon"``.

    Returns:
        The estimate.

    Raises:
        InputError: for a model without configuration, an unknown task or setting, or a layer that there is not. Also
            for a mixture of experts, whose step depends on contents.

    Example:
        >>> found = estimate("tiny", "verbalizer", Workload(batch_size=8, tokens=20))
        >>> print(found.to_table())
    """
    given = (("task", task, TASKS), ("precision", precision, _PRECISIONS), ("optimizer", optimizer, _OPTIMIZERS))
    for name, value, allowed in given:
        if value not in allowed:
            raise unknown(name, value, allowed)
    if rank is not None:
        check_count("rank", rank)
    from tl_nla.benchmark.dry_run import Recipe

    config, work = configuration(model), work or Workload()
    found = _counted(
        config, task, work, Recipe(_precision(config, dtype), precision == MIXED, rank, work.checkpointing), optimizer
    )
    return replace(found, notes=(*found.notes, *_too_long(config, task, work)))


def _counted(config: Any, task: str, work: Workload, recipe: Any, optimizer: str) -> Estimate:
    from tl_nla.benchmark.estimated_reading import reading
    from tl_nla.benchmark.estimated_training import training

    if task in READINGS:
        return reading(config, task, work, recipe.dtype)
    try:
        return training(config, task, work, recipe, optimizer)
    except RuntimeError as error:
        raise InputError(
            f"a training step of {type(config).__name__} cannot be run without contents ({first_line(error)}). "
            "Mixtures of experts choose rows by what they hold: give a dense model of the same size"
        ) from error


def configuration(model: Any) -> Any:
    """The configuration of a model by name, of its text part where it sees images; nothing else is read.

    Args:
        model: see :func:`estimate`; a configuration is given back.

    Raises:
        InputError: when there is none.
    """
    if not isinstance(model, str | Path):
        return getattr(model, "text_config", None) or model
    from transformers import AutoConfig

    from tl_nla.model.targets import model_folder
    from tl_nla.paths import user_path
    from tl_nla.plugins import embedded, named

    known = embedded(model) is not None or named(model) is not None
    folder = model_folder(model) if known else user_path(model)
    place = folder if folder.is_dir() else model
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise InputError(f"no config.json in {folder}; give a folder with one, or a hub id")
    try:
        config = AutoConfig.from_pretrained(str(place), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"no configuration of {str(model)!r} could be had ({first_line(error)}); give a folder with config.json, "
            "or a hub id that can be reached"
        ) from error
    return getattr(config, "text_config", None) or config


def _too_long(config: Any, task: str, work: Workload) -> tuple[str, ...]:
    """A remark where a text is longer than what the model reads; models without such a limit have no remark."""
    tokens = work.tokens + (0 if task in READINGS else work.prompt)
    context = getattr(config, "max_position_embeddings", None)
    if not isinstance(context, int) or tokens <= context:
        return ()
    return (f"{tokens} tokens are more than this model reads at once ({context}): it refuses such a text",)


def _precision(config: Any, dtype: str) -> Any:
    import torch

    from tl_nla.model.placement import Placement

    return Placement(dtype).torch_dtype or getattr(config, "dtype", None) or torch.float32
