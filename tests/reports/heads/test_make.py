"""The stages: what is read is what the model does, and what was done is not done again."""

import pytest
import torch

from tests import zoo
from tests.reports.heads.test_planted import random_texts
from tl_nla.attribution import DirectConfig, direct_attribution, skip_effects
from tl_nla.data import Document
from tl_nla.data.progress import listening
from tl_nla.errors import InputError
from tl_nla.model.reading import read
from tl_nla.reports import HeadCards, HeadCardsConfig, head_cards
from tl_nla.reports.heads import make, watch
from tl_nla.reports.heads.effects import effect_columns, head_effects
from tl_nla.reports.heads.texts import Texts
from tl_nla.reports.heads.watch import layer_weight, watched_pass

CONFIG = HeadCardsConfig(documents=8, effects=2, rows=6)


@pytest.fixture(params=["bridge", "hooked"])
def model(request, get_model):
    return get_model(request.param, "gpt2")


@pytest.mark.parametrize("family", ["gpt2", "olmo2", "llama"])
def test_writes_and_sources_are_the_models(get_model, family):
    model = get_model("bridge", family)
    texts = Texts.draw(model, random_texts(), CONFIG)
    batch = next(texts.batches(model, CONFIG, zoo.N_HEADS))
    found = watched_pass(
        model, batch.tokens, [1], lambda pattern: pattern.sum((0, 2, 3))[:, None], (batch.row, batch.column)
    )
    own = torch.einsum("nhw,hwd->nhd", found[1].z, layer_weight(model, 1))
    pattern = model.run_with_cache(batch.tokens)[1]["blocks.1.attn.hook_pattern"]
    for number, (row, column) in enumerate(zip(batch.row.tolist(), batch.column.tolist(), strict=True)):
        if number % 7:
            continue
        reading = read(model, batch.tokens[row : row + 1], ["blocks.1.attn.head.0"], column)
        assert torch.allclose(own[number], reading.heads(1)[0], atol=1e-4)
        looked = pattern[row, :, column].clone()
        looked[:, [0, column]] = 0.0
        assert torch.equal(found[1].source[number, :, 0], looked.argmax(-1))
        assert torch.allclose(found[1].share[number, :, 0], looked.amax(-1))


def test_effects_are_those_of_skips_and_direct_attribution(model):
    texts = Texts.draw(model, random_texts(), CONFIG)
    heads = {layer: zoo.N_HEADS for layer in range(zoo.N_LAYERS)}
    found, columns = head_effects(model, texts, 0, heads, CONFIG), effect_columns(texts, 0, CONFIG)
    ids = torch.tensor(texts.ids[0])[None]
    targets = torch.roll(ids, -1, 1)
    skips = skip_effects(model, ids, ["blocks.1.attn.head.2"], targets=targets)
    direct = direct_attribution(model, ids, targets, unit="head", how=DirectConfig("log_prob"))
    row = zoo.N_HEADS + 2
    assert torch.allclose(found["kl"][row], skips["blocks.1.attn.head.2"][0, columns], atol=1e-5)
    assert torch.allclose(found["change"][row], skips.target_change[0, 0, columns], atol=1e-5)
    assert torch.allclose(found["direct"][row], direct["blocks.1.attn.head.2"][0, columns], atol=1e-5)


def test_an_interrupted_run_goes_on_and_ends_in_the_same(model, tmp_path, monkeypatch):
    whole = head_cards(model, random_texts(), CONFIG)

    def stop(what, done, total):
        if what.startswith("putting") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        head_cards(model, random_texts(), CONFIG, cache=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("words-*")) == ["words-000.json", "words-001.json"]
    (tmp_path / ".read-00000-half").write_bytes(b"what a killed run leaves behind")
    (tmp_path / "read-00000.safetensors").unlink()
    calls: list[str] = []
    for name in ("watched_pass", "head_effects", "layer_words"):
        function = getattr(make, name)
        monkeypatch.setattr(make, name, lambda *a, f=function, n=name: calls.append(n) or f(*a))
    found = head_cards(model, random_texts(), CONFIG, cache=tmp_path)
    assert calls == ["watched_pass", "layer_words"]
    assert found.cards == whole.cards
    with pytest.raises(InputError, match="rows differ"):
        head_cards(model, random_texts(), CONFIG, cache=tmp_path, rows=5)
    with pytest.raises(InputError, match="texts differ"):
        head_cards(model, random_texts(9), CONFIG, cache=tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".read-00000-half"]


def test_documents_of_one_book_stay_together(model):
    texts = [Document(str(number), text, {"document": f"book {number % 3}"}) for number, text in
             enumerate(random_texts(24))]  # fmt: skip
    drawn = Texts.draw(model, texts, HeadCardsConfig(heldout=0.5))
    sides: dict[str, set[bool]] = {}
    by_ids = {
        tuple(model.tokenizer.encode(text.text, add_special_tokens=False)): text.notes["document"] for text in texts
    }
    for ids, held in zip(drawn.ids, drawn.heldout, strict=True):
        sides.setdefault(by_ids[ids[1:]], set()).add(held)
    assert all(len(side) == 1 for side in sides.values())
    assert len(sides) == 3


class Knows:
    """An oracle whose words hold everything, or nothing."""

    def __init__(self, share):
        self.share, self.seen = share, None

    def explain(self, write, before):
        assert write.shape == before.shape
        self.seen = write
        return [f"write {number}" for number in range(len(write))]

    def reconstruct(self, texts):
        return self.seen * self.share + (1 - self.share) * self.seen.roll(1, 0)


def test_an_oracles_words_are_scored(model, tmp_path):
    for share, wanted in ((1.0, 1.0), (0.0, None)):
        found = head_cards(model, random_texts(), CONFIG, oracle=Knows(share), cache=tmp_path, oracle_rows=4)
        values = [card.words.fve_oracle for card in found.cards]
        assert all(value == pytest.approx(1.0) for value in values) if wanted else all(value < 0.5 for value in values)
        assert found.cards[0].words.oracle_rows == 4
    path = tmp_path / "cards.json"
    found.to_json(path)
    assert HeadCards.from_json(path) == found


def test_a_layer_whose_heads_do_not_add_up_is_told(get_model, monkeypatch):
    model = get_model("bridge", "gpt2")
    right = watch.head_sum

    def wrong(model, layer, part, values):
        if layer == 1:
            raise InputError("the heads do not add up")
        return right(model, layer, part, values)

    monkeypatch.setattr(watch, "head_sum", wrong)
    found = head_cards(model, random_texts(), CONFIG)
    assert {card.layer for card in found.cards} == {0, 2}
    assert found.notes == ("Layer 1 has no cards: the heads do not add up",)


def test_half_precision_changes_little(get_model):
    whole = head_cards(get_model("bridge", "llama"), random_texts(), CONFIG)
    half = head_cards(zoo.bridge(zoo.hf_model("llama").bfloat16()), random_texts(), CONFIG)
    for one, other in zip(whole.cards, half.cards, strict=True):
        assert one.kinds == other.kinds
        assert one.attention.sink == pytest.approx(other.attention.sink, abs=2e-2)
        assert one.matters.skip_kl == pytest.approx(other.matters.skip_kl, rel=0.3, abs=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heldout": 1.0}, "heldout is 1.0"), ({"documents": 1}, "documents is 1"), ({"layers": (9,)}, "0 to 2"),
        ({"vocabulary": "no"}, "'words' or 'all'"), ({"oracle": object()}, r"object has no explain"),
    ],
)  # fmt: skip
def test_bad_settings_are_told(model, settings, message):
    with pytest.raises(InputError, match=message):
        head_cards(model, random_texts(), **settings)


def test_too_few_texts_are_told(model):
    with pytest.raises(InputError, match="0 of 2 texts have 8 tokens"):
        head_cards(model, ["w4", "w5 w6"])
