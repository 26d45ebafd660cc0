"""The suite's prompts are what it says they are, its runs are the adapter's, and its arms tell steering from noise."""

import pytest
import torch

from docs.studies.steering.cases import ATTRIBUTES, find_cases, partners
from docs.studies.steering.continuations import continue_changed
from docs.studies.steering.places import places_of
from docs.studies.steering.run import evaluate
from docs.studies.steering.score import STORED_ROWS, SteeringRows, load_rows, save_rows
from tl_nla.adapters import VectorAdapter, attach
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.steering import SteeringVector
from tl_nla.steering.judges import perplexity
from tl_nla.storyworld.corpus import held_out_stories
from tl_nla.storyworld.tiny import load_tiny

SITE = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def tiny():
    return load_tiny()


@pytest.fixture(scope="module")
def cases(tiny):
    return find_cases(tiny.model, tiny.tokenizer, 12)


def test_prompts_end_before_a_word_that_was_told(tiny, cases):
    assert {case.attribute for case in cases} == set(ATTRIBUTES)
    stories = held_out_stories(60)
    for case in cases:
        text = tiny.tokenizer.decode(case.ids, skip_special_tokens=True)
        story = stories[case.story].text
        assert story.startswith(f"{text} {case.answer}")
        assert f" {case.target}" not in story
        assert {tiny.tokenizer.decode([case.ids[place]]) for place in case.told} == {f" {case.answer}"}
        assert all(len(case.ids) - 1 not in places for places in places_of(case).values())


def test_partners_are_of_the_same_attribute_and_another_story(cases):
    for case, other in zip(cases, partners(cases), strict=True):
        assert cases[other].attribute == case.attribute
        assert cases[other].story != case.story


@torch.no_grad()
def test_sweeps_are_what_the_adapter_does(tiny, cases):
    case = cases[0]
    tokens = torch.tensor([case.ids])
    vectors = torch.stack([torch.zeros(128), *torch.randn(2, 128, generator=torch.Generator().manual_seed(0)) * 3])
    size = read(tiny.model, tokens, [SITE], -1)[SITE].norm() / 128**0.5
    found = continue_changed(tiny.model, case.ids, SITE, vectors * size, 10, tiny.tokenizer.eos_token_id)
    for row, vector in enumerate(vectors):
        adapter = VectorAdapter(SteeringVector(vector, SITE), positions=-1, generated=False)
        with attach(tiny.model, adapter):
            slow = tiny.model.generate(tokens, max_new_tokens=10, do_sample=False, verbose=False, stop_at_eos=False)
        assert slow[0, len(case.ids) :].tolist() == found.tokens[row].tolist()
        logits = tiny.model.run_with_hooks(tokens, fwd_hooks=adapter.hooks(tiny.model))[0, -1]
        torch.testing.assert_close(found.first[row], logits.log_softmax(-1), atol=1e-3, rtol=1e-3)
        nats = torch.tensor(perplexity(tiny.model, slow, len(case.ids))).log()
        torch.testing.assert_close(found.log_perplexity[row], nats, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_arms(tmp_path):
    results = evaluate(prompts=6, training_stories=40, figure=str(tmp_path / "figure.svg"))
    value = {(row.arm, row.metric, row.layer): row.value for row in results.rows}
    assert value["unsteered", "success", None] == value["round_trip", "success", None] == 0
    assert value["edit_delta", "success", None] > value["random_direction", "success", None]
    assert value["unsteered", "kl", None] == 0 < value["round_trip", "kl", None] < value["edit_delta", "kl", None]
    assert value["next_only", "success", None] > value["facts_only", "success", None]
    assert value["shuffled_rewriters", "dealt_success", None] > 0.5
    assert value["explanation", "leak", None] >= value["quotes_removed_after", "leak", None]
    # Overwriting every told place and what follows at the lowest layer is a story that told the target.
    assert value["told_to_last_patched", "success", 0] > value["told", "success", None]
    assert (tmp_path / "figure.svg").read_text().count("words, delta") == 1


def test_rows_come_back_as_they_were_stored(tmp_path, cases):
    rows = SteeringRows.of(3, cases)
    rows.put("success", "edit", 1, 1.0)
    rows.put("kl", "edit", 0, 2.5)
    save_rows([rows], tmp_path / "rows.safetensors")
    back = load_rows(tmp_path / "rows.safetensors")[0].chosen(SteeringRows.of(0, cases[::-1]))
    assert back.seed == 3
    assert back.values["success"]["edit"].nan_to_num(-1).tolist() == [-1.0] * (len(cases) - 2) + [1.0, -1.0]
    assert back.values["kl"]["edit"][-1] == 2.5
    assert rows.chosen(SteeringRows(0, torch.tensor([9999]), torch.tensor([1]))) is None


def test_stored_rows_are_small_and_of_other_seeds():
    assert STORED_ROWS.stat().st_size < 300_000
    assert [rows.seed for rows in load_rows()] == [1, 2]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"model": "gpt2"}, "embedded"), ({"prompts": 1}, "prompts"), ({"figure": "figure"}, "svg"),
     ({"pairs": ["0=folder"]}, "SEED=FOLDER")],
)  # fmt: skip
def test_refuses(settings, says):
    with pytest.raises(InputError, match=says):
        evaluate(**settings)
