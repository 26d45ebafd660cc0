"""Explained states: nothing after a position enters its label, and grounding says only what the state holds."""

import copy

import pytest
import torch

from docs.studies.tiny.grounding import fit_grounding
from tl_nla.data import Document
from tl_nla.data.explained import StateCapture
from tl_nla.data.explained import explain_states as core_explain_states
from tl_nla.errors import InputError
from tl_nla.explainers.short import ShortExplainer
from tl_nla.metrics.probe import fit_probe
from tl_nla.model.reading import read
from tl_nla.model.targets import load_target
from tl_nla.storyworld.claims import parse_claims
from tl_nla.storyworld.documents import world_documents
from tl_nla.storyworld.explained import WorldCapture, explain_states
from tl_nla.storyworld.facts import Facts
from tl_nla.storyworld.grounding import Grounding

POINT = "blocks.2.hook_resid_post"


@pytest.fixture(scope="module")
def target():
    return load_target("tiny")


def explained(target, documents, **settings):
    return explain_states(target.model, target.tokenizer, documents, POINT, **settings)


def test_states_are_those_of_read(target):
    document = world_documents(1, 5)[0]
    states = explained(target, [document], positions_per_document=None)
    ids = [target.tokenizer.bos_token_id, *target.tokenizer.encode(document.text, add_special_tokens=False)]
    reading = read(target.model, torch.tensor([ids]), [POINT], "all")
    assert states.position.tolist() == list(range(1, len(ids)))
    torch.testing.assert_close(states.acts, reading[POINT][1:], atol=1e-5, rtol=1e-5)


def test_nothing_after_the_position_enters_a_label(target):
    first, other = world_documents(2, 6)
    ids = target.tokenizer.encode(first.text, add_special_tokens=False)
    for cut in (9, 20, len(ids) // 2):
        prefix = target.tokenizer.decode(ids[:cut])
        alone = explained(target, [Document("a", prefix)], positions_per_document=None)
        longer = explained(target, [Document("b", prefix + other.text)], positions_per_document=None)
        # The last words of the prefix may join the text behind them into another token.
        kept = len(alone) - 2
        assert longer.explanations[:kept] == alone.explanations[:kept]
        assert longer.contexts[:kept] == alone.contexts[:kept]


def test_the_end_token_is_named_in_words(target):
    states = explained(target, world_documents(12, 9), positions_per_document=None)
    special = [word for word in target.tokenizer.all_special_tokens if word != "</explanation>"]
    assert any("the end" in text for text in states.explanations)
    assert not any(token in text for text in states.explanations for token in special)


def test_explanations_hold_no_name_of_a_control_token_of_any_tokenizer(target):
    """Such as SmolLM2's ``<filename>``, which a text may hold and which looks like a word."""
    tokenizer = copy.deepcopy(target.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["Tom"]})
    document = Document("a", "Tom had a red kite. The kite was in the park.")
    settings = {"point": POINT, "positions_per_document": None, "how": StateCapture(explainer=ShortExplainer())}
    plain = core_explain_states(target.model, target.tokenizer, [document], **settings).explanations
    found = core_explain_states(target.model, tokenizer, [document], **settings).explanations
    assert any("Tom" in text for text in plain)
    assert not any("Tom" in text for text in found)
    assert {text for text in plain if "Tom" not in text} <= set(found)


def test_batches_do_not_matter(target):
    documents = world_documents(6, 2)
    one = explained(target, documents, how=WorldCapture(batch_size=1))
    many = explained(target, documents, how=WorldCapture(batch_size=6))
    assert one.explanations == many.explanations
    torch.testing.assert_close(one.acts, many.acts, atol=1e-4, rtol=1e-4)


def test_refuses_texts_without_a_position(target):
    with pytest.raises(InputError, match="longer texts"):
        explained(target, [Document("a", "Tom")], min_position=5)


@pytest.fixture(scope="module")
def places():
    """States that hold the place of the person named last in their first eight numbers, or not at all."""
    generator = torch.Generator().manual_seed(0)
    names = ["park", "farm", "lake"]
    words = [names[n] for n in torch.randint(3, (600,), generator=generator).tolist()]
    acts = torch.randn(600, 16, generator=generator)
    for row, word in enumerate(words):
        acts[row, names.index(word)] += 8.0 * (row % 2)
    facts = [Facts(at={"Tom": word}, person="Tom") for word in words]
    return acts, facts


def test_grounding_keeps_what_the_state_holds(places):
    acts, facts = places
    grounding = fit_grounding(acts, facts, floor=0.6)
    held = [("where" in kinds) for kinds in grounding.held(acts, facts)]
    assert sum(held[1::2]) > 0.95 * 300
    assert sum(held[::2]) < 0.5 * 300
    assert all(kinds <= {"where"} for kinds in grounding.held(acts, facts)), "one person: nothing to tell apart"


def test_grounding_round_trip(places, tmp_path):
    acts, facts = places
    grounding = fit_grounding(acts, facts, POINT, 0.6)
    grounding.save(tmp_path / "probes.safetensors")
    back = Grounding.load(tmp_path / "probes.safetensors")
    assert (back.site, back.floor, set(back.probes)) == (POINT, 0.6, {"where"})
    same = [a == b for a, b in zip(back.held(acts, facts), grounding.held(acts, facts), strict=True)]
    assert sum(same) >= len(same) - 3, "half precision may move a probability across the floor"


def test_grounding_refuses_damage(tmp_path):
    with pytest.raises(InputError, match="no probes"):
        Grounding.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(InputError, match="damaged"):
        Grounding.load(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="floor"):
        Grounding({}, 1.5)


def test_shipped_probes_leave_facts_out(target):
    from tl_nla.storyworld.tiny import embedded_grounding

    documents = world_documents(20, 4)
    every = explained(target, documents)
    held = explained(target, documents, how=WorldCapture(grounding=embedded_grounding()))
    counts = [sum(len(parse_claims(text)) for text in states.explanations) for states in (every, held)]
    assert counts[1] < counts[0]
    for long, short in zip(every.explanations, held.explanations, strict=True):
        assert set(parse_claims(short)) <= set(parse_claims(long))


def test_probe_reads_what_is_there():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, (400,), generator=generator)
    acts = torch.randn(400, 12, generator=generator) + 4 * torch.nn.functional.one_hot(labels, 12)
    probe = fit_probe(acts[:300], [str(label) for label in labels[:300].tolist()])
    right = [a == str(b) for a, b in zip(probe.predict(acts[300:]), labels[300:].tolist(), strict=True)]
    assert sum(right) > 85
    with pytest.raises(InputError, match="two answers"):
        fit_probe(acts[:3], ["a", "a", "a"])
