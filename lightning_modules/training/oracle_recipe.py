"""How a diff oracle is trained: its stages in order, each run by Lightning's ``Trainer``.

1. ``capture``: writes of the target model, with their labels.
2. ``rate``: the learning rate, where the configuration gives none.
3. ``verbalizer``: learns the right words for writes.
4. ``reconstructor``: learns to rebuild writes from label texts.
5. ``encoder``, ``practice``, ``rehearsal``: source slots of the verbalizer, where the configuration asks for them.
6. ``own_words``: the reconstructor learns the verbalizer's own words.
7. ``refinement``: a network behind the reconstructor's head.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightning_modules.callbacks.learning_curve import Curve
from lightning_modules.data.oracle_config import OracleConfig
from lightning_modules.data.oracle_data import Captured, capture
from lightning_modules.data.write_texts import WriteTexts
from lightning_modules.training.oracle_stages import curve_scorer, reconstructor_spec, texts_of, verbalizer_spec
from lightning_modules.training.rate_search import RATES, find_rate
from lightning_modules.training.refinement import refine
from lightning_modules.training.source_encoder import add_source_slots
from lightning_modules.training.stage import StageConfig, StageSpec
from lightning_modules.training.stages import Stages, Tell
from tl_nla.benchmark.oracle_score import MAX_NEW_TOKENS
from tl_nla.benchmark.oracle_texts import readable
from tl_nla.data import Document
from tl_nla.data.progress import listening
from tl_nla.errors import InputError
from tl_nla.model.loading import load_causal_lm, load_tokenizer
from tl_nla.model.quantised import scheme_of
from tl_nla.model.targets import Target
from tl_nla.oracle import DiffOracle, LabelledWrites, WriteReconstructor
from tl_nla.oracle.prompts import longest_prompt, oracle_marker

_OWN_RATE = 0.5
"""Share of the learning rate for the reader's own words: the reconstructor already reads labels."""


@dataclass(frozen=True)
class OracleRecipe:
    """All that a diff oracle is trained from.

    Attributes:
        target: the model that is explained.
        folder: its Hugging Face files; reader and reconstructor start from them.
        train: training documents.
        held: held-out documents.
        config: sizes and steps.
        seed: of positions, left-out heads and orders of rows.
        keep: folder in which captured writes and stages are kept, and gone on with by a run that was interrupted.
        more: documents for the source slots: of their encoder, and of the practice; the training ones when empty.
        tell: hears which stage is running, and how far it is.
    """

    target: Target
    folder: Path
    train: Sequence[Document]
    held: Sequence[Document]
    config: OracleConfig
    seed: int = 0
    keep: Path | None = None
    more: Sequence[Document] = ()
    tell: Tell | None = None

    def stage(self, steps: int, shift: int = 0, share: float = 1.0) -> StageConfig:
        """Settings of a stage that trains with Muon.

        Args:
            steps: of it.
            shift: added to the seed.
            share: of the learning rate.
        """
        config = self.config
        rate = share * config.rate
        return StageConfig(steps, config.batch_size, rate, self.seed + shift, precision=config.precision)

    def with_rate(self, data: Captured, stages: Stages) -> "OracleRecipe":
        """The same recipe with the learning rate that suits the model, or as it is where it has one."""
        if self.config.learning_rate is not None:
            return self

        def find() -> list[str]:
            def spec(reader: Any) -> StageSpec:
                return replace(arm_spec("gold", reader, data, started), score=None)

            started = replace(self, config=replace(self.config, learning_rate=RATES[0]))
            tell = None if self.tell is None else partial(self.tell, "rate")
            return [str(find_rate(fresh_oracle(self, data).reconstructor, spec, tell=tell).rate)]

        rate = float(stages.listed("rate", find)[0])
        return replace(self, config=replace(self.config, learning_rate=rate))

    def settings(self, writes: int) -> str:
        """What stages are trained with, in words; kept ones of anything else are refused."""
        texts = "\0".join(document.text for part in (self.train, self.held, self.more) for document in part)
        read = f"{writes} writes of documents {hashlib.sha256(texts.encode()).hexdigest()[:12]}"
        begin = getattr(self.target.model.cfg, "default_prepend_bos", None)
        dtype = next(self.target.model.parameters()).dtype
        held, scheme = "" if dtype == torch.float32 else f" in {dtype}", scheme_of(self.target.model)
        held += "" if scheme is None else f" with {scheme} weights"
        return f"model {self.target.name}{held}, begin token {begin}, seed {self.seed}, {read}, {self.config}"


@dataclass(frozen=True)
class TrainedOracle:
    """What a recipe gives.

    Attributes:
        oracle: trained.
        data: what it was trained on.
        stages: where stages are kept.
        curve: learning curve of its reconstructor on labels.
        recipe: what it was trained by, its learning rate among it.
    """

    oracle: DiffOracle
    data: Captured
    stages: Stages
    curve: Curve
    recipe: OracleRecipe


def train_oracle(recipe: OracleRecipe) -> TrainedOracle:
    """Run all stages of a diff oracle in order, or go on with the first that an earlier run did not finish.

    Raises:
        InputError: when no reader can be made from the model, or kept stages are of other settings.
        KeyboardInterrupt: when the user interrupts; the same call goes on.
    """
    check_verbalizer(recipe)
    if recipe.tell is not None:
        recipe.tell("capture", 0, 0)
    kept = None if recipe.keep is None else recipe.keep / "writes"
    tell = recipe.tell
    with listening(None if tell is None else lambda what, done, total: tell("capture", done, total)):
        data = capture(recipe.target, recipe.train, recipe.held, recipe.config.sizes, recipe.seed, kept)
    stages = Stages(recipe.keep, recipe.settings(len(data.train)), recipe.tell)
    recipe = recipe.with_rate(data, stages)
    config, seed = recipe.config, recipe.seed
    oracle = fresh_oracle(recipe, data, recipe.target.name)
    stages.run("verbalizer", oracle.verbalizer, lambda: words_spec(oracle, data, recipe))
    reconstructor = oracle.reconstructor
    curve = stages.run("reconstructor", reconstructor, lambda: arm_spec("gold", reconstructor, data, recipe))
    add_source_slots(oracle.verbalizer, recipe.target, data, recipe.more or recipe.train, stages, config, seed)
    if config.lengths.own_words and config.lengths.own_writes:
        stages.run("own_words", reconstructor, lambda: own_words_spec(oracle, data, recipe))
    rows = config.refine.drawn(len(data.train), seed)
    own_texts = partial(half_own_words, oracle, data.train.select(rows), config)
    refine(reconstructor, own_texts, data.train.write[rows], config.refine, seed, stages, "refinement")
    return TrainedOracle(oracle, data, stages, curve, recipe)


def check_verbalizer(recipe: OracleRecipe) -> None:
    """Refuse at once, not after a long capture, a model that no reader can be made from.

    Raises:
        InputError: when no marker can be had, or the longest prompt with an answer is longer than the context.
    """
    target = recipe.target
    marker = oracle_marker(load_tokenizer(recipe.folder), char=recipe.config.injection_char)
    longest, context = longest_prompt(marker), int(target.model.cfg.n_ctx)
    if longest + MAX_NEW_TOKENS > context:
        raise InputError(
            f"{target.name!r} has a context of {context} tokens. Its oracle's prompts have up to {longest} in this "
            f"tokenizer and its answers up to {MAX_NEW_TOKENS}, so a context of {longest + MAX_NEW_TOKENS} is needed"
        )


def fresh_oracle(recipe: OracleRecipe, data: Captured, base: str = "") -> DiffOracle:
    """An untrained oracle that knows the usual magnitudes, on the device of the trainings."""
    config = recipe.config
    torch.manual_seed(recipe.seed)
    model, tokenizer = load_causal_lm(recipe.folder, torch.float32), load_tokenizer(recipe.folder)
    blocks = min(config.blocks, int(model.config.num_hidden_layers))
    oracle = DiffOracle.create(
        model, tokenizer, data.train.write.shape[1], blocks=blocks, injection_char=config.injection_char
    )
    oracle.base = base
    oracle.fit(data.train.before, data.train.write)
    oracle.strength = data.reference
    # Tokens are what a pass costs on a CPU, launches are on a GPU.
    oracle.verbalizer.by_length = config.device == "cpu"
    return oracle.to(config.device)


def words_spec(oracle: DiffOracle, data: Captured, recipe: OracleRecipe) -> StageSpec:
    """The reader's stage: explanations of training writes, and answers to questions about them."""
    items = WriteTexts(data.train, 0.15, recipe.seed, 0.6, 0.05, recipe.config.questions)
    return verbalizer_spec(oracle.verbalizer, items, recipe.stage(recipe.config.lengths.verbalizer))


def arm_spec(arm: str, reader: WriteReconstructor, data: Captured, recipe: OracleRecipe) -> StageSpec:
    """The stage of a reconstructor on one arm's texts, in the same order and for as long as every other arm's.

    Args:
        arm: ``gold`` for the oracle's own, which reads label texts and learns the reader's words in a later stage.
        reader: that is trained.
        data: captured.
        recipe: model, sizes and steps.
    """
    config = recipe.config
    texts, held = (
        readable(reader, texts_of(arm, data, split, recipe.target, recipe.seed, config.sizes.top_k))
        for split in ("train", "heldout")
    )
    lengths = config.lengths
    how = recipe.stage(lengths.reconstructor + (0 if arm == "gold" else lengths.own_words))
    return reconstructor_spec(reader, texts, data.train.write, how, curve_scorer(reader, held, data))


def own_words_spec(oracle: DiffOracle, data: Captured, recipe: OracleRecipe) -> StageSpec:
    """The reconstructor's second stage: half the reader's own greedy words about training writes, half labels."""
    config, lengths = recipe.config, recipe.config.lengths
    drawn = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(recipe.seed))
    writes = data.train.select(drawn[: 2 * lengths.own_writes])
    texts = readable(oracle.reconstructor, half_own_words(oracle, writes, config))
    how = recipe.stage(lengths.own_words, 1, _OWN_RATE)
    return reconstructor_spec(oracle.reconstructor, texts, writes.write, how)


def half_own_words(oracle: DiffOracle, writes: LabelledWrites, config: OracleConfig) -> list[str]:
    """What the reader says, greedily, of the first half of some writes, and the label texts of the others."""
    cut = (len(writes) + 1) // 2
    together = 256 if config.device == "cpu" else 4096
    said = oracle.explain(writes.write[:cut], writes.before[:cut], max_new_tokens=MAX_NEW_TOKENS, batch_size=together)
    return [*said, *(writes.text(row) for row in range(cut, len(writes)))]
