import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faithfulness.helpers import explained
from tl_nla.faithfulness.clauses import quoted_spans, split_clauses
from tl_nla.faithfulness.perturbations import (
    PERTURBATIONS,
    paraphrase,
    quotes_only,
    quotes_removed,
    reworded_by,
    shuffle_words,
)
from tl_nla.faithfulness.wordings import canonical
from tl_nla.storyworld.claims import parse_claims

TEXTS = explained(20)[0]


@pytest.mark.parametrize("name", ["paraphrase", "wording", "clause_order"])
@pytest.mark.parametrize("text", TEXTS[:6])
def test_meaning_is_kept_and_words_are_not(name, text):
    changed = PERTURBATIONS[name](text)
    assert changed != text
    assert changed == PERTURBATIONS[name](text)
    assert set(parse_claims(canonical(changed))) == set(parse_claims(text))


@given(st.text(max_size=80))
def test_any_text_can_be_perturbed(text):
    for change in PERTURBATIONS.values():
        change(text)
    assert sorted("".join(shuffle_words(text).split())) == sorted("".join(text.split()))


@given(st.text(alphabet='ab". ', max_size=50))
def test_quotes_and_the_rest_are_the_whole(text):
    inside = sum(end - start for start, end in quoted_spans(text))
    assert len(quotes_removed(text)) == len(text) - inside
    assert len(quotes_only(text)) == max(0, inside + 3 * len(quoted_spans(text)) - 1)


def test_free_text_takes_synonyms_outside_quotes_only():
    changed = paraphrase('The text is about a "big text".', order=False)
    assert changed == 'The passage is regarding a "big text".'


def test_no_clause_keeps_its_wording():
    for text in TEXTS[:5]:
        before, after = (set(c.text for c in split_clauses(t)) for t in (text, paraphrase(text, order=False)))
        assert not before & after


def test_a_callable_rewords_clause_by_clause():
    seen = []
    apply = reworded_by(lambda clause: seen.append(clause) or ("" if "two" in clause else clause.upper()))
    assert apply("one. two. three.") == "ONE. two. THREE."
    assert seen == ["one.", "two.", "three."]
