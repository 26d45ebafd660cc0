import pytest
import torch

from docs.studies.tiny.tokenizer import build_tokenizer
from tests import zoo
from tests.faithfulness.helpers import bag, explained, ordered, word_vector
from tl_nla.errors import InputError
from tl_nla.faithfulness.detectors import DETECTORS, Suspect, auc, detect
from tl_nla.faithfulness.legibility import token_losses
from tl_nla.faithfulness.perturbations import paraphrase, shuffle_clauses
from tl_nla.faithfulness.scoring import Scorer, training_mean
from tl_nla.faithfulness.wordings import canonical

TEXTS, TRUTHS, _, _ = explained(16)
DOCUMENTS = torch.arange(16)


def meaning(texts):
    """A reader to whom only the claims matter."""
    return bag([" ".join(sorted(canonical(text).split())) for text in texts])


def hidden(texts):
    """A reader to whom the first clause's wording matters."""
    return meaning(texts) + 3 * torch.stack([word_vector(text[:12]) for text in texts])


def suspect(read, texts=TEXTS, truths=TRUTHS, **settings):
    acts = read(texts)
    return Suspect(Scorer(read, acts, training_mean(acts)), (meaning,), texts, DOCUMENTS, truths, **settings)


STYLED = [paraphrase(text, seed=9) for text in TEXTS]


@pytest.mark.parametrize("name", ["cross_reconstructor", "paraphrase", "wording", "order"])
def test_a_reader_of_style_is_caught_and_a_reader_of_meaning_is_not(name):
    honest, caught = detect(suspect(meaning), [name])[name], detect(suspect(hidden, STYLED), [name])[name]
    torch.testing.assert_close(honest, torch.zeros(16).double())
    assert auc(caught, honest) > (0.75 if name == "order" else 0.9)  # some orders keep the first clause


def test_lies_are_caught_by_falsehood_only():
    shifted = TRUTHS[1:] + TRUTHS[:1]
    assert auc(detect(suspect(meaning, truths=shifted))["falsehood"], detect(suspect(meaning))["falsehood"]) > 0.9
    assert detect(suspect(meaning))["falsehood"].max() == 0
    assert detect(suspect(hidden, STYLED))["falsehood"].max() == 0  # wording does not make a claim false


def test_clean_models_read_words(get_model):
    tokenizer = build_tokenizer()
    model = zoo.hf_model("llama", vocab_size=len(tokenizer), max_position_embeddings=128)
    found = detect(suspect(meaning, clean=(model, tokenizer)))
    assert set(found) == set(DETECTORS)
    losses = token_losses(model, tokenizer, [TEXTS[0], TEXTS[1][:30], ""])
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(TEXTS[0], add_special_tokens=False)]])
    with torch.no_grad():
        alone = model(ids, labels=ids).loss
    torch.testing.assert_close(losses[0].float(), alone)
    assert losses[2] == 0
    bridge = get_model("bridge", "llama")
    assert token_losses(bridge, bridge.tokenizer, ["w4 w5", "w6"]).shape == (2,)


def test_style_tokens_are_found_where_marks_carry():
    def marks(texts):
        return bag([" ".join(c for c in text if not c.isalnum() and not c.isspace()) for text in texts])

    words = ['"a", and; the!', '"b"! the and:', '"c"; or the?']
    acts = marks(words)
    model = zoo.hf_model("llama", vocab_size=len(build_tokenizer()))
    own, clean = Scorer(marks, acts, training_mean(acts)), (model, build_tokenizer())
    case = Suspect(own, (bag,), words, torch.arange(3), None, clean)
    assert detect(case, ["style_tokens"])["style_tokens"].mean() > 0.3


def test_what_is_missing_is_said():
    without = suspect(meaning, truths=None)
    assert set(detect(without)) == {"cross_reconstructor", "paraphrase", "wording", "order"}
    for name, missing in (("falsehood", "give truths"), ("style_tokens", "tokenizer")):
        with pytest.raises(InputError, match=missing):
            detect(without, [name])
    with pytest.raises(InputError, match="nearest: paraphrase"):
        detect(without, ["paraphrases"])
    alone = Suspect(without.scorer, (), TEXTS, DOCUMENTS)
    with pytest.raises(InputError, match="never trained with these words"):
        detect(alone, ["order"])


def test_auc_counts_pairs():
    assert auc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    with pytest.raises(InputError, match="at least one each"):
        auc(torch.tensor([]), torch.tensor([1.0]))


def test_excess_needs_the_same_change_for_all():
    case = suspect(ordered)
    changed = [shuffle_clauses(text, 0) for text in TEXTS]
    own = case.scorer.errors(changed) - case.scorer.errors(TEXTS)
    others = case.scorer.reading_with(meaning)
    reference = others.errors(changed) - others.errors(TEXTS)
    torch.testing.assert_close(detect(case, ["order"])["order"], own - reference)
