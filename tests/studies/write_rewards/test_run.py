import json

import pytest
import torch

from docs.studies.write_rewards.run import WriteRewardsConfig, crossed, run_study, study_writes, truth_of_words
from tl_nla.model.sites import Site
from tl_nla.oracle import DiffOracle
from tl_nla.storyworld.tiny import WEIGHTS

CONFIG = WriteRewardsConfig(documents=6, held_documents=3, core_minutes=1e-4, batch=4, group=2)


@pytest.fixture(scope="module")
def data():
    return study_writes("tiny", CONFIG, 0)


@pytest.fixture(scope="module")
def oracle():
    return DiffOracle.from_pretrained(WEIGHTS / "oracle")


def test_heads_and_mlps_of_stories_of_its_own(data):
    kinds = {site.split(".")[2] for place, site in enumerate(data.held.sites) if (data.held.site == place).any()}
    assert kinds == {"attn", "mlp"}
    assert {site.kind for site in map(Site.parse, data.train.sites)} == {"head", "mlp"}
    assert not {one.text for one in data.train_documents} & {one.text for one in data.held_documents}


def test_label_texts_are_true_and_other_words_are_not(data):
    held = data.held
    right = truth_of_words([held.text(row) for row in range(len(held))], held)
    for name in ("promoted", "suppressed", "sources"):
        assert right[f"precision/{name}"][0] == right[f"recall/{name}"][0] == 1.0
    nothing = truth_of_words(["It promotes none"] * len(held), held)
    assert nothing["recall/promoted"][0] == 0.0
    assert "precision/promoted" not in nothing
    assert nothing["words"][0] == 3.0


def test_shares_of_a_sentence_by_hand(data):
    row = next(row for row in range(len(data.held)) if len(set(data.held.labels[row].promoted or ())) >= 3)
    one = data.held.select(torch.tensor([row]))
    first, second, *_ = dict.fromkeys(word.casefold() for word in one.labels[0].promoted)
    right = len({word.casefold() for word in one.labels[0].promoted})
    scores = truth_of_words([f"It promotes {first} {second} wrong words"], one)
    assert scores["precision/promoted"][0] == 0.5
    assert scores["recall/promoted"][0] == pytest.approx(2 / right, abs=1e-4)


@pytest.mark.slow
def test_of_one_oracle_all_crossings_agree(data, oracle):
    scores = crossed(oracle, oracle, data, 0)
    for kind in ("head", "mlp"):
        cells = {
            scores[words][f"fve/{kind}/{reader}"] for words in ("before", "after") for reader in ("before", "after")
        }
        assert len(cells) == 1
        assert scores["after"][f"gain/{kind}/after"] == (0.0, 0.0, 0.0)
        assert scores["shuffled"][f"fve/{kind}/after"][2] < scores["after"][f"fve/{kind}/after"][1]
    assert scores["before"]["recall_at_4/promotes"] == scores["after"]["recall_at_4/promotes"]


@pytest.mark.slow
def test_a_study_says_every_number(oracle, tmp_path):
    lines = []
    run_study("tiny", "tiny", CONFIG, 0, tmp_path / "trained", lines.append)
    first, *rest = map(json.loads, lines)
    assert first["steps"] == 1
    assert {line["words"] for line in rest} == {"before", "after", "labels", "shuffled"}
    trained = DiffOracle.from_pretrained(tmp_path / "trained")
    for name, value in trained.verbalizer.state_dict().items():
        if not torch.equal(value, oracle.verbalizer.state_dict()[name]):
            break
    else:
        pytest.fail("the reader was not trained")
