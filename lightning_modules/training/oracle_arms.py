"""Controls of a diff oracle: readers of other texts, trained alike, and the scores of them all."""

from functools import partial

import torch

from lightning_modules.callbacks.learning_curve import Curve
from lightning_modules.data.oracle_data import Captured
from lightning_modules.training.oracle_recipe import (
    OracleRecipe,
    TrainedOracle,
    arm_spec,
    fresh_oracle,
    train_oracle,
)
from lightning_modules.training.oracle_stages import reconstructor_spec, texts_of
from lightning_modules.training.refinement import refine
from lightning_modules.training.stage import StageSpec
from lightning_modules.training.stages import Stages
from tl_nla.benchmark.oracle_health import note_distinct
from tl_nla.benchmark.oracle_rows import OracleRows
from tl_nla.benchmark.oracle_score import (
    component_means,
    distant_words,
    frequent_sources,
    score_answers,
    score_flip_probe,
    score_long_context,
    score_readers,
    score_state_probe,
    score_sum_of_heads,
    score_words,
    start_rows,
)
from tl_nla.benchmark.oracle_texts import long_context_texts, readable, shuffled_rows
from tl_nla.benchmark.own_run import score_own_run
from tl_nla.benchmark.source_probe import score_source_probe
from tl_nla.data.progress import in_turn
from tl_nla.model.targets import Target
from tl_nla.model.text import TextEncoder
from tl_nla.oracle import DiffOracle, WriteReconstructor


def build_oracle(recipe: OracleRecipe) -> tuple[DiffOracle, OracleRows]:
    """Train an oracle and the readers of all its controls, and score everything.

    Returns:
        The oracle, and row scores on the held-out writes.
    """
    trained = train_oracle(recipe)
    recipe = trained.recipe
    curves, readers = {"gold": trained.curve}, {}
    for arm in recipe.config.arms:
        reader = readers[arm] = fresh_oracle(recipe, trained.data).reconstructor
        curves[arm] = train_arm(arm, reader, trained.data, recipe, trained.stages)
    long_context = train_long_context(trained.data, recipe, trained.stages)
    return trained.oracle, score_oracle(trained, readers, curves, recipe, long_context)


def train_arm(arm: str, reader: WriteReconstructor, data: Captured, recipe: OracleRecipe, stages: Stages) -> Curve:
    """The two stages of one arm's reader: its texts, and its refinement.

    Returns:
        The learning curve of the first.
    """
    config, seed = recipe.config, recipe.seed
    curve = stages.run(arm, reader, lambda: arm_spec(arm, reader, data, recipe))
    rows = config.refine.drawn(len(data.train), seed)

    def texts() -> list[str]:
        own = texts_of(arm, data, "train", recipe.target, seed, config.sizes.top_k)
        return [own[row] for row in rows.tolist()]

    refine(reader, texts, data.train.write[rows], config.refine, seed, stages, f"{arm}_refinement")
    return curve


def train_long_context(data: Captured, recipe: OracleRecipe, stages: Stages) -> WriteReconstructor | None:
    """A reader of raw context that is as long as the label texts of an attention's heads together, in two stages.

    Returns:
        ``None`` where the configuration asks for none, or there are no attentions with all their heads.
    """
    config, seed = recipe.config, recipe.seed
    if not config.lengths.long_context:
        return None
    said = [data.train.text(row) for row in range(len(data.train))]
    encode = TextEncoder(recipe.target.tokenizer, recipe.target.model)
    texts = long_context_texts(data.train, said, encode, data.train_documents)
    if not texts:
        return None
    reader, write = fresh_oracle(recipe, data).reconstructor, data.train.write[torch.tensor(list(texts))]

    def spec() -> StageSpec:
        read = readable(reader, list(texts.values()))
        return reconstructor_spec(reader, read, write, recipe.stage(config.lengths.long_context))

    stages.run("cat_long", reader, spec)
    refine(reader, lambda: list(texts.values()), write, config.refine, seed, stages, "cat_long_refinement")
    return reader


def score_oracle(
    trained: TrainedOracle, readers: dict[str, WriteReconstructor], curves: dict[str, Curve], recipe: OracleRecipe,
    long_context: WriteReconstructor | None = None,
) -> OracleRows:  # fmt: skip
    """Row scores of all arms and questions on the held-out writes."""
    oracle, data, target, seed = trained.oracle, trained.data, recipe.target, recipe.seed
    held = data.held
    rows = start_rows(held, component_means(data.train, held.sites), data.untrained, seed)
    explanations = score_words(rows, oracle, held)
    note_distinct(rows, explanations)
    score_sum_of_heads(rows, oracle, held, explanations)
    settings = target, seed, recipe.config.sizes.top_k
    given = {arm: explanations if arm.startswith("cat_and") else None for arm in readers}
    texts = {arm: texts_of(arm, data, "heldout", *settings, explanations=given[arm]) for arm in readers}
    if "cat" in readers:
        lengths = explanations  # raw context as long as the words it stands beside
        texts["cat"] = texts_of("cat", data, "heldout", *settings, explanations=lengths)
    score_readers(rows, readers, texts, held)
    if "cat_and_explanation" in readers:
        other = [explanations[row] for row in shuffled_rows(held, seed).tolist()]
        mixed = texts_of("cat_and_explanation", data, "heldout", *settings, explanations=other)
        score_readers(rows, {"cat_and_shuffled": readers["cat_and_explanation"]}, {"cat_and_shuffled": mixed}, held)
    if long_context is not None:
        encode = TextEncoder(target.tokenizer, target.model)
        longer = long_context_texts(held, explanations, encode, data.held_documents)
        score_long_context(rows, long_context, longer, held)
    sources = frequent_sources(data.train, held.sites)
    scores = [
        partial(score_own_run, rows, target, held, data.held_documents, explanations),
        partial(score_state_probe, rows, data.train, held),
        partial(score_answers, rows, oracle, held, explanations, sources, previous_words(target, data)),
        partial(score_flip_probe, rows, data.train, held),
        partial(score_source_probe, rows, data.train, held),
    ]
    in_turn(scores, "scoring controls")
    for arm, curve in curves.items():
        rows.curves[arm] = torch.tensor(
            [[step, *scores] for step, scores in zip(curve.steps, curve.scores, strict=True)]
        )
    return rows


def previous_words(target: Target, data: Captured) -> list[list[str]]:
    """For each held-out row the words nearest to it among those too far back to be local."""
    encode = TextEncoder(target.tokenizer, target.model)
    ids = [encode(document.text).ids for document in data.held_documents]
    places = zip(data.held.document.tolist(), data.held.position.tolist(), strict=True)
    return [distant_words(ids[document], position, data.vocabulary.texts) for document, position in places]
