"""A diff oracle and the readers of its controls, trained on a model given as a folder."""

import dataclasses

import pytest
import torch

from lightning_modules.training import oracle_arms, oracle_commands, oracle_recipe
from lightning_modules.training.oracle_arms import build_oracle
from lightning_modules.training.oracle_recipe import OracleRecipe, train_oracle
from lightning_modules.training.refinement import RefineConfig
from tests import zoo
from tests.lightning_modules.quick import quick
from tl_nla.benchmark.oracle_texts import arm_texts
from tl_nla.benchmark.results import read_results
from tl_nla.model.targets import load_target
from tl_nla.model.text import TextEncoder
from tl_nla.storyworld.documents import world_documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    zoo.save_target(path)
    return path


def test_the_command_trains_on_any_folder(folder, tmp_path, monkeypatch):
    from tl_nla.cli.fit_oracle import UNUSABLE
    from tl_nla.cli.main import main

    monkeypatch.setattr(oracle_commands, "SMALL", quick(sources=None))
    saved, path = tmp_path / "oracle", tmp_path / "heads.json"
    common = ["--model", str(folder), "--documents", "6", "--steps", "2"]
    assert main(["evaluate", "heads", *common, "--json", str(path), "--oracle", str(saved)]) == UNUSABLE
    assert (tmp_path / "oracle.stages" / "verbalizer.safetensors").is_file()
    results = read_results(path)
    arms = {row.arm for row in results.rows if row.metric == "fve"}
    assert {"explanation", "gold", "cat", "cat_and_explanation", "cat_and_shuffled", "state", "component", "shuffled",
            "empty", "mean", "probe", "own_run"} <= arms  # fmt: skip
    assert any(row.split == "heldout_heads" for row in results.rows)
    path = tmp_path / "diff.json"
    assert main(["diff", "Tom was happy", "--model", str(folder), "--oracle", str(saved), "--json", str(path)]) == 0
    assert "blocks.0.attn.head.0" in path.read_text()


def test_another_marker_alone_trains_nothing_on_an_embedded_model(capsys):
    from tl_nla.cli.main import main

    assert main(["evaluate", "heads", "--injection-char", "㈎"]) == 2
    assert "give --documents or --steps" in capsys.readouterr().err


def recipe(folder, seed=0, keep=None, tell=None, **settings):
    """Five stories to train on, three held out."""
    target, stories = load_target(str(folder)), world_documents(8, 0)
    return OracleRecipe(target, folder, stories[:5], stories[5:], quick(**settings), seed, keep, tell=tell)


STAGES = ("verbalizer", "reconstructor", "encoder", "practice", "rehearsal", "own_words", "refinement", "cat",
          "cat_refinement", "cat_and_explanation", "cat_and_explanation_refinement", "state", "state_refinement",
          "cat_long", "cat_long_refinement")  # fmt: skip


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """Row scores of a run that nothing interrupted, where its stages are kept, and the slots when it said its words."""
    kept, slots, spec = tmp_path_factory.mktemp("whole"), [], oracle_recipe.own_words_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            oracle_recipe,
            "own_words_spec",
            lambda oracle, *given: slots.append(oracle.verbalizer.slots.count) or spec(oracle, *given),
        )
        _, rows = build_oracle(recipe(folder, keep=kept))
    return rows, kept, slots


def test_the_marker_of_the_settings_is_the_oracles(folder):
    bare = {"sources": None, "lengths": {"own_words": 0}, "refine": RefineConfig(passes=0)}
    trained = train_oracle(recipe(folder, injection_char="㈎", **bare))
    assert trained.oracle.verbalizer.char == "㈎"


def test_kept_stages_are_those_of_the_same_model_texts_and_settings(folder):
    usual = recipe(folder)
    other = dataclasses.replace(usual, train=[*usual.train[1:], usual.train[0]])
    name = dataclasses.replace(usual, target=dataclasses.replace(usual.target, name="other"))
    told = [
        how.settings(50) for how in (usual, recipe(folder), other, name, recipe(folder, 1), recipe(folder, blocks=2))
    ]
    assert told[0] == told[1] != usual.settings(51)
    assert len(set(told)) == 5


def test_an_interrupted_run_goes_on_with_the_stages_that_are_kept(folder, whole, tmp_path):
    told, stages = [], ["capture", *STAGES]

    def tell(name, done, steps):
        told.append((name, done, steps))
        if name == "state" and steps and not any(name == "state" for name, _, _ in told[:-2]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_oracle(recipe(folder, 0, tmp_path, tell))
    assert list(dict.fromkeys(name for name, _, _ in told)) == stages[:13]
    before, told[:] = list(told), [*told, ("again", 0, 0)]
    _, rows = build_oracle(recipe(folder, 0, tmp_path, tell))
    after = told[len(before) + 1 :]
    assert list(dict.fromkeys(name for name, _, _ in after)) == stages
    assert {name for name, done, _ in after if not done} == {"capture", *stages[12:]}
    whole, *_ = whole
    for arm in ("explanation", "gold", "cat", "cat_and_explanation", "state", "cat_long"):
        torch.testing.assert_close(rows.errors[arm], whole.errors[arm], equal_nan=True)
    assert set(rows.curves) == set(whole.curves)
    found = "encoder/recall_at_3/sources_distant"
    torch.testing.assert_close(rows.counts[found], whole.counts[found], equal_nan=True)
    assert torch.equal(
        rows.counts[found][:, 1].nan_to_num(), whole.counts[found.replace("encoder", "cat")][:, 1].nan_to_num()
    )


def test_the_reconstructor_reads_what_the_reader_says_with_its_slots(whole):
    _, kept, slots = whole
    assert slots == [6]
    assert {path.stem for path in kept.glob("*.safetensors")} == set(STAGES)
    assert not list(kept.glob("*.ckpt"))


def test_every_refinement_reads_texts_of_the_writes_it_is_taught(folder, monkeypatch):
    """The same rows for all arms, each with its own text; half of the oracle's are in its words, half are labels."""
    seen, data, capture = {}, [], oracle_recipe.capture
    monkeypatch.setattr(oracle_recipe, "capture", lambda *given: data.append(capture(*given)) or data[0])
    for module in (oracle_recipe, oracle_arms):
        monkeypatch.setattr(
            module,
            "refine",
            lambda reader, texts, write, config, seed, stages, name: seen.update({name: (texts(), write)}),
        )
    how = recipe(folder, 3, sources=None, arms=("cat",))
    oracle, _ = build_oracle(how)
    train, target = data[0].train, how.target
    rows = how.config.refine.drawn(len(train), 3)
    assert len(rows) == how.config.refine.rows < len(train)
    chosen = train.select(rows)
    said = oracle.explain(chosen.write[:4], chosen.before[:4], max_new_tokens=oracle_recipe.MAX_NEW_TOKENS)
    own, written = seen["refinement"]
    assert own == [*said, *(chosen.text(row) for row in range(4, 8))]
    cat, same = seen["cat_refinement"]
    assert cat == arm_texts(
        "cat", chosen, TextEncoder(target.tokenizer, target.model), data[0].train_documents, 3, True
    )
    assert torch.equal(written, chosen.write)
    assert torch.equal(same, chosen.write)
    long, attentions = seen["cat_long_refinement"]
    assert len(long) == len(attentions) == sum(train.sites[site].endswith("attn") for site in train.site.tolist())


@pytest.mark.slow
def test_scores_stand_with_refinement_and_without(folder):
    bare = {"sources": None, "arms": ("cat",), "lengths": {"long_context": 0}}
    built, rows = build_oracle(recipe(folder, refine=RefineConfig(8, 1, 9, 4, 8, 0.05), **bare))
    _, linear = build_oracle(recipe(folder, refine=RefineConfig(passes=0), **bare))
    assert built.reconstructor.refinement is not None
    for arm in ("explanation", "gold", "shuffled", "cat"):
        torch.testing.assert_close(rows.errors[f"unrefined/{arm}"], linear.errors[arm])
        assert not torch.allclose(rows.errors[arm], linear.errors[arm])
    assert not [arm for arm in linear.errors if arm.startswith("unrefined")]


def test_the_model_is_read_in_the_precision_that_is_asked_for(folder):
    made = oracle_commands.recipe_of(str(folder), oracle_commands.OracleOptions(documents=8, dtype="bfloat16"))
    assert next(made.target.model.parameters()).dtype == torch.bfloat16
    usual = oracle_commands.recipe_of(str(folder), oracle_commands.OracleOptions(documents=8))
    assert made.settings(1) != usual.settings(1)
