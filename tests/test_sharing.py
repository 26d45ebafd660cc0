"""Pairs, oracles, steering vectors and head cards go to the hub and come back; what they were made with is compared."""

import json

import pytest
import torch
import yaml

from tests import zoo
from tests.nla.formats.hub import Hub
from tests.oracle.tiny import make_oracle
from tests.reports.heads.test_views import make_cards
from tl_nla.errors import InputError
from tl_nla.nla import NLA
from tl_nla.nla.formats.testing import write_kitft
from tl_nla.nla.provenance import compare, record
from tl_nla.oracle import DiffOracle
from tl_nla.reports import HeadCards
from tl_nla.sharing import CardFacts, model_card, push_to_hub
from tl_nla.steering import SteeringVector

FIGURES = [{"arm": "explanation", "fve": 0.7}, {"arm": "shuffled", "fve": -0.6}]


@pytest.fixture
def nla(tmp_path):
    return NLA.from_pretrained(write_kitft(tmp_path / "pair").folder)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return Hub(tmp_path / "cache").install(monkeypatch)


def test_round_trip(nla, hub):
    nla.mean = torch.arange(32.0)
    address = push_to_hub(nla, "me/tiny", CardFacts("mit", FIGURES))
    assert address == "https://huggingface.co/me/tiny"
    assert hub.private is True
    again = NLA.from_pretrained("me/tiny")
    torch.testing.assert_close(again.reconstruct(["a b"]), nla.reconstruct(["a b"]))
    acts = torch.randn(2, 32)
    assert again.verbalize(acts, max_new_tokens=5) == nla.verbalize(acts, max_new_tokens=5)
    assert torch.equal(again.mean, nla.mean)
    assert again.provenance["compared"] == "equal"


def test_the_card_says_what_it_is(nla):
    card = model_card(nla, "me/tiny", CardFacts("mit", FIGURES, "Trained on bytes.", "make figures"))
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["license"] == "mit"
    assert yaml.safe_load(metadata)["base_model"] == "some/base"
    assert "| explanation | 0.7 |\n| shuffled | -0.6 |" in text
    for told in ('NLA.from_pretrained("me/tiny")', "blocks.1.hook_resid_post", "make figures", "Trained on bytes."):
        assert told in text
    assert text.count("```") == 2


def test_uneven_figures_are_refused(nla):
    with pytest.raises(InputError, match="different columns"):
        model_card(nla, "me/tiny", CardFacts("mit", [{"a": 1}, {"b": 2}]))


def test_a_hub_that_refuses_is_told_in_one_line(nla, hub):
    hub.refuses = True
    with pytest.raises(InputError, match="'me/tiny' could not be uploaded: 403 Forbidden") as caught:
        push_to_hub(nla, "me/tiny", CardFacts("mit"))
    assert "\n" not in str(caught.value)


def test_the_written_sidecar_is_official(nla, tmp_path):
    """Everything that the official reader asks for, under the names that it asks for."""
    nla.save_pretrained(tmp_path / "new")
    for part in ("av", "ar"):
        told = yaml.safe_load((tmp_path / "new" / part / "nla_meta.yaml").read_text(encoding="utf-8"))
        assert (told["kind"], told["schema_version"], told["role"], told["d_model"]) == ("nla_model", 2, part, 32)
        assert {"av", "ar"} <= set(told["prompt_templates"])
        assert told["extraction"]["mse_scale"] == pytest.approx(32**0.5)
        assert told["extraction_layer_index"] == told["critic"]["extraction_layer_index"] == 1
        assert {"injection_char", "injection_token_id", "injection_left_neighbor_id", "injection_right_neighbor_id",
                "critic_suffix_ids"} <= set(told["tokens"])  # fmt: skip
        assert "reading" not in told
    av = yaml.safe_load((tmp_path / "new" / "av" / "nla_meta.yaml").read_text(encoding="utf-8"))
    assert av["extraction"]["injection_scale"] == 7.5


def test_records_side_by_side(nla):
    now = record(nla.verbalizer.model, 1, "some/base")
    assert compare(now, now).verdict == "equal"
    older = {**now, "versions": {**now["versions"], "transformers": "4.0"}, "dtype": "bfloat16"}
    found = compare(older, now)
    assert found.verdict == "compatible"
    assert [line.split()[0] for line in found.differences] == ["transformers", "dtype"]
    other = {**now, "fingerprint": {**now["fingerprint"], "blocks": 12}}
    assert compare(other, now) == type(found)("different", ("blocks 12 when saved, 4 here",))
    assert compare({**now, "layer": 2}, now).verdict == "different"


def test_another_model_under_the_same_name_warns(nla, tmp_path):
    nla.save_pretrained(tmp_path / "new")
    path = tmp_path / "new" / "av" / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layer": 2}))
    with pytest.warns(UserWarning, match="is not what was saved: layer 2 when saved, 1 here"):
        found = NLA.from_pretrained(tmp_path / "new")
    assert found.provenance["compared"] == "different"


def test_an_oracle_goes_round(hub):
    oracle = make_oracle()
    oracle.base = "some/base"
    push_to_hub(oracle, "me/oracle", CardFacts("mit", FIGURES))
    again = DiffOracle.from_pretrained("me/oracle")
    torch.testing.assert_close(again.reconstruct(["It promotes red"]), oracle.reconstruct(["It promotes red"]))
    assert again.provenance["compared"] == "equal"
    text = (hub.repositories["me/oracle"] / "README.md").read_text(encoding="utf-8")
    assert 'tl_nla.DiffOracle.from_pretrained("me/oracle")' in text
    assert yaml.safe_load(text.split("---\n", 2)[1])["tags"] == ["diff-oracle", "interpretability"]


def test_an_oracle_whose_weights_are_of_another_model_warns(tmp_path):
    make_oracle().save_pretrained(tmp_path / "oracle")
    path = tmp_path / "oracle" / "provenance.json"
    saved = json.loads(path.read_text())
    saved["fingerprint"]["d_vocab"] += 1
    path.write_text(json.dumps(saved))
    with pytest.warns(UserWarning, match="is not what was saved: d_vocab"):
        DiffOracle.from_pretrained(tmp_path / "oracle")


def test_a_steering_vector_goes_round(hub):
    vector = SteeringVector(torch.arange(8.0), "blocks.1.hook_resid_post", "gpt2", 2.5)
    push_to_hub(vector, "me/yellow", CardFacts("mit"))
    again = SteeringVector.from_pretrained("me/yellow")
    assert torch.equal(again.vector, vector.vector)
    assert (again.site, again.model, again.strength) == (vector.site, "gpt2", 2.5)
    assert again.provenance["compared"] == "equal"
    card = model_card(vector, "me/yellow", CardFacts("mit"))
    assert yaml.safe_load(card.split("---\n", 2)[1])["base_model"] == "gpt2"
    assert 'SteeringVector.from_pretrained("me/yellow")' in card


def test_code_of_every_card_runs(hub, nla, llama):
    """The lines that a reader copies: imports, loading and names are right."""
    given = {"states": torch.randn(1, 32), "model": llama, "tokens": zoo.tokens()}
    oracle, vector = make_oracle(), SteeringVector(torch.ones(zoo.D_MODEL), "blocks.1.hook_resid_post", "some/base")
    for artefact in (nla, oracle, vector, make_cards()):
        push_to_hub(artefact, "me/shared", CardFacts("mit"))
        code = model_card(artefact, "me/shared", CardFacts("mit")).split("```python\n")[1].split("```")[0]
        exec(code, dict(given))  # noqa: S102
        hub.repositories.pop("me/shared")


def test_head_cards_go_round(hub):
    cards = make_cards()
    push_to_hub(cards, "me/cards", CardFacts("mit"))
    assert HeadCards.from_pretrained("me/cards") == cards
