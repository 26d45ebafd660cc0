from types import SimpleNamespace

import pytest

from tests.explainers.moments import moments
from tl_nla.errors import InputError
from tl_nla.explainers import ColumnExplainer
from tl_nla.explainers.column import explanations_of

PLACED = ({"position": -2, "explanation": "x"}, {"position": 0, "explanation": "y"})


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"text": "a b"}, None),
        ({"explanation": None}, None),
        ({"explanation": "one"}, {-1: "one"}),
        ({"explanation": "one", "position": 3}, {3: "one"}),
        ({"explanation": ["one", None, "three"]}, {0: "one", 2: "three"}),
        (
            {"explanation": [{"position": -2, "explanation": "x"}, {"position": 0, "explanation": "y"}]},
            {-2: "x", 0: "y"},
        ),
    ],
)
def test_rows(row, found):
    assert explanations_of(row, "line 1") == found


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"explanation": 3}, "holds int; give a text"),
        ({"explanation": " "}, "an explanation is ' '"),
        ({"explanation": "x", "position": "2"}, "'position' is '2'"),
        ({"explanation": [{"explanation": "x"}]}, "'position' is None"),
        ({"explanation": ["x", 2]}, "an explanation is 2"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_their_place(row, says):
    with pytest.raises(InputError, match=rf"line 7: .*{says}|line 7.*{says}"):
        explanations_of(row, "line 7")


def test_stored_texts_are_given_at_their_positions():
    explainer = ColumnExplainer()
    document = SimpleNamespace(id="d", text="the text", notes={"explanation": [None, "second", None, None, "last"]})
    assert explainer.positions(document, 5) == [1, 4]
    asked = [moment for moment in moments(5) if moment.position in (1, 4)]
    assert explainer("the text", asked) == [("second", None), ("last", None)]
    with pytest.raises(InputError, match="brings no explanation of token 0"):
        explainer("the text", moments(1))
    assert explainer.positions(SimpleNamespace(id="e", text="other", notes={}), 5) == []
    back = {"explanation": "third", "position": -3}
    assert explainer.positions(SimpleNamespace(id="g", text="one more", notes=back), 5) == [2]
    with pytest.raises(InputError, match="explains token 4, but its text has 4 tokens"):
        explainer.positions(SimpleNamespace(id="f", text="short", notes={"explanation": "x", "position": 4}), 4)
