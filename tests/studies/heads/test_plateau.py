"""A network on the model's own run on raw context: what it is given, and the command that trains it."""

import pytest
import torch

from docs.studies.heads.plateau import PLATEAU_ROWS, QUICK_PLATEAU, PlateauConfig, plateau_rows, train_plateau
from docs.studies.heads.plateau_data import ContextRows, PlateauRows, context_rows
from docs.studies.heads.write_network import Evidence
from docs.studies.oracle_rows import load_rows
from docs.studies.tiny.oracle import STORED_ROWS, rebuild_oracle
from lightning_modules.data.oracle_data import capture
from lightning_modules.training.oracle_recipe import OracleRecipe, fresh_oracle
from tests import zoo
from tests.lightning_modules.quick import quick
from tl_nla.benchmark.oracle_rows import KINDS
from tl_nla.benchmark.own_run import Writes
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.model.sites import Site
from tl_nla.model.targets import load_target
from tl_nla.oracle import CaptureConfig
from tl_nla.oracle.capture import drawn_rows
from tl_nla.storyworld.documents import world_documents

FEW = quick(lengths={"long_context": 0}, arms=())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    zoo.save_target(path / "target")
    return path


@pytest.fixture(scope="module")
def kept(folder, tmp_path_factory):
    """Stages of the oracle whose rows are stored in ``folder``."""
    kept = tmp_path_factory.mktemp("kept")
    rebuild_oracle(folder, FEW, 1, load_target(str(folder / "target")), kept)
    return kept


def test_the_oracle_comes_first(folder, tmp_path):
    with pytest.raises(InputError, match="studies tiny --parts oracle"):
        train_plateau(folder, FEW, 1, load_target(str(folder / "target")), stored_in=tmp_path)


def test_the_network_is_scored_on_the_stored_rows(folder, kept):
    target = load_target(str(folder / "target"))
    (stored,) = load_rows(folder / STORED_ROWS)
    rows = train_plateau(folder, FEW, 1, target, kept, QUICK_PLATEAU)
    heads = stored.rows_of("head")
    assert stored.untrained
    assert 0 < len(heads) < len(stored.rows_of("head", None))
    for name in ("deviation", "position", "document", "site"):
        assert torch.equal(getattr(rows, name), getattr(stored, name)[heads])
    trained = {"explanation", "gold", "cat", "cat_and_explanation", "cat_and_shuffled", "shuffled"}
    assert set(rows.errors) == {"mean", "component", "probe", "own_run", *trained}
    assert all(errors.isfinite().all() for errors in rows.errors.values())
    assert not torch.equal(rows.errors["cat_and_shuffled"], rows.errors["cat_and_explanation"])
    assert set(rows.curves) == trained
    for arm, curve in rows.curves.items():
        assert curve[:, 0].tolist() == [1, 2, 3, 4]
        fve = 1 - rows.errors[arm].sum() / rows.deviation.sum()
        assert curve[-1, 1 + KINDS.index("head")] == pytest.approx(float(fve), abs=1e-4)
    again = train_plateau(folder, FEW, 1, target, kept, QUICK_PLATEAU)
    assert all(torch.equal(again.errors[arm], rows.errors[arm]) for arm in trained)
    (written,) = load_rows(folder / PLATEAU_ROWS)
    assert set(written.errors) == set(rows.errors)


@pytest.mark.usefixtures("kept")
def test_rows_of_other_writes_are_refused(folder):
    target = load_target(str(folder / "target"))
    other = quick({"held_documents": 4}, {"long_context": 0}, arms=())
    with pytest.raises(InputError, match="other writes"):
        train_plateau(folder, other, 1, target, plateau=QUICK_PLATEAU)


def test_rows_keep_their_components_where_heads_are_left_out(folder):
    target, stories = load_target(str(folder / "target")), world_documents(8, 0)
    data = capture(target, stories[:5], stories[5:], FEW.sizes, 0)
    assert data.train.sites != data.held.sites
    recipe = OracleRecipe(target, folder / "target", stories[:5], stories[5:], FEW)
    oracle = fresh_oracle(recipe, data).eval()
    table = plateau_rows(target, oracle, data, stories, QUICK_PLATEAU, 0)
    with torch.no_grad():
        oracle.reconstructor.add_refinement(4).out.bias += 1.0
    again = plateau_rows(target, oracle, data, stories, QUICK_PLATEAU, 0)
    torch.testing.assert_close(again.spoken.told, table.spoken.told)  # the linear head's reading
    heads = [site for site in data.train.sites if Site.parse(site).kind == "head"]
    assert [data.held.sites[number] for number in table.contexts.site.tolist()] == heads
    # Words of an untrained reader are as long as any context here, so the own run is the write itself.
    whole = table.spoken.length > 60
    assert whole.any()
    torch.testing.assert_close(table.spoken.write[whole], table.written[whole], atol=1e-4, rtol=1e-3)
    assert set(table.spoken.site.tolist()) == set(table.contexts.site.tolist())
    for row in range(0, len(table.spoken), 3):
        (same,) = torch.nonzero((data.train.write == table.written[row]).all(1)).flatten().tolist()
        assert data.held.sites[int(table.spoken.site[row])] == data.train.sites[int(data.train.site[same])]


@pytest.mark.parametrize("size", [3, 500])
def test_contexts_end_where_the_whole_text_is_read(folder, size):
    target, stories = load_target(str(folder / "target")), world_documents(3, 0)
    sites = ("blocks.0.attn.head.0", "blocks.1.attn.head.1")
    found = context_rows(target, stories, sites, torch.tensor([4, 2]), torch.tensor([size]), 2, 0)
    assert found.site.tolist() == [4, 2]
    assert found.length.tolist() == [size] * 6
    drawn = drawn_rows(target.model, target.tokenizer, stories, CaptureConfig(2, seed=0))
    ends = [ids[: place + 1] for _, ids, places in drawn for place in places]
    for row, ids in enumerate(ends):
        for texts, expected in ((ids, found.truth), ([ids[0], *ids[1:][-size:]], found.own.write)):
            for place, site in enumerate(sites):
                alone = read(target.model, torch.tensor([texts]), [site], [-1])[site][0]
                torch.testing.assert_close(expected[row, place], alone, atol=1e-4, rtol=1e-3)


def test_batches_hold_contexts_alone_then_words_with_and_without_them():
    places, sites, words, width = 5, torch.tensor([3, 1]), 2, 4
    numbers = torch.arange(places * 2 * width).reshape(places, 2, width).float()
    contexts = ContextRows(Writes(numbers + 1000, numbers), torch.arange(places), sites, numbers + 0.5)
    yes = torch.ones(words, dtype=torch.bool)
    own = torch.full((words, width), -1.0)
    spoken = Evidence(own, own, own * 2, torch.tensor([0, 2]), torch.tensor([7, 8]), yes, yes)
    table = PlateauRows(contexts, spoken, torch.tensor([[1.0], [2.0]]).expand(-1, width))
    assert (table.silent, table.repeats, len(table)) == (10, 4, 18)
    known, written = table.batch(torch.arange(18))
    assert known.site[:10].tolist() == [3, 1] * places
    assert known.length[:10].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert torch.equal(known.write[:10], numbers.flatten(0, 1))
    assert torch.equal(known.before[:10], numbers.flatten(0, 1) + 1000)
    assert torch.equal(written[:10], numbers.flatten(0, 1) + 0.5)
    assert known.has_context[:10].all()
    assert not known.has_words[:10].any()
    assert known.has_words[10:].all()
    assert known.has_context[10:].tolist() == [True, True, False, False] * 2
    assert known.site[10:].tolist() == [0, 2] * 4
    assert written[10:, 0].tolist() == [1.0, 2.0] * 4
    mixed, _ = table.batch(torch.tensor([17, 0, 12]))
    assert mixed.has_words.tolist() == [False, True, True]
    assert mixed.site.tolist() == [3, 2, 0]


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("positions", 0), ("kinds", ()), ("kinds", ("state",))])
def test_settings_are_checked(name, value):
    with pytest.raises(InputError, match=name.removesuffix("s")):
        PlateauConfig(**{name: value})
