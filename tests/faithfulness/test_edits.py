import torch

from tests.faithfulness.helpers import bag, explained
from tl_nla.faithfulness.clauses import split_clauses
from tl_nla.faithfulness.edits import clause_verdict, deletions, edit_effects, substitutions
from tl_nla.faithfulness.scoring import Scorer, training_mean
from tl_nla.metrics import squared_deviations, squared_errors
from tl_nla.storyworld.claims import check, parse_claims


def scorer(texts):
    acts = bag(texts)
    return Scorer(bag, acts, training_mean(acts))


def test_deletions_leave_one_clause_out_each():
    texts, truths, _, _ = explained(4)
    edits = deletions(texts, truths)
    assert len(edits) == sum(len(split_clauses(text)) for text in texts)
    for edit in edits:
        clause = split_clauses(texts[edit.row])[edit.clause]
        assert len(set(parse_claims(texts[edit.row])) - set(parse_claims(edit.text))) == len(parse_claims(clause.text))
        assert edit.verdict == "true"


def test_deletions_take_any_text():
    assert [edit.text for edit in deletions(["One. Two.\nThree"])] == ["Two. Three", "One. Three", "One. Two."]
    assert {edit.verdict for edit in deletions(["One. Two."])} == {None}


def test_substitutions_are_false_and_change_one_claim():
    texts, truths, _, _ = explained()
    edits = substitutions(texts, truths, seed=1)
    assert edits == substitutions(texts, truths, seed=1)
    assert {edit.kind for edit in edits} >= {"who", "where", "feeling"}
    for edit in edits:
        new = set(parse_claims(edit.text)) - set(parse_claims(texts[edit.row]))
        assert len(new) == 1
        assert check(new.pop(), truths[edit.row]) != "true"


def test_verdict_of_a_clause_is_its_worst():
    truth = explained(1)[1][0]
    assert clause_verdict("Nothing here.", truth) is None
    assert clause_verdict('Next: surely " nobody".', truth) == "false"


def test_effects_are_differences_of_error():
    texts, truths, _, _ = explained(5)
    own = scorer(texts)
    edits = deletions(texts, truths)
    effects = edit_effects(own, texts, edits)
    scale = squared_deviations(own.acts, own.mean).mean()
    for place in (0, 7, len(edits) - 1):
        act = own.acts[edits[place].row][None]
        reference = squared_errors(bag([edits[place].text]), act) - squared_errors(bag([texts[edits[place].row]]), act)
        torch.testing.assert_close(effects[place], (reference / scale)[0])
    assert (effects >= -1e-9).all()  # the whole text is exact, so nothing can help
