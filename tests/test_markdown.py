import string

import markdown as markdown_package
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_nla.markdown import CELL_LIMIT, cell, escape, show

ANY_TEXT = st.text(st.characters(codec=None), max_size=60) | st.text("|\\\n`*<>&#[]!_-: ", max_size=40)


def rendered(text):
    """The page that TensorBoard's own Markdown extensions make of a table with a cell of this text and another."""
    table = f"| a | b |\n| --- | --- |\n| {text} | end |"
    return markdown_package.markdown(table, extensions=["markdown.extensions.tables"])


@settings(max_examples=150)
@given(ANY_TEXT)
def test_any_text_stays_one_cell(text):
    page = rendered(escape(text))
    assert page.count("<td>") == 2
    assert page.endswith("<td>end</td>\n</tr>\n</tbody>\n</table>")
    assert not any(tag in page for tag in ("<em>", "<strong>", "<code>", "<a ", "<img"))


@pytest.mark.parametrize("text", ["KL(p || q)", "two\nlines", "a\r\nb|c", "0.1 [0.0, 0.2]", "see [1](#reasons)"])
def test_our_own_names_stay_one_cell_and_keep_their_brackets(text):
    page = rendered(cell(text))
    assert page.count("<td>") == 2
    assert page.endswith("<td>end</td>\n</tr>\n</tbody>\n</table>")
    assert ("<a href" in page) == ("](" in text)
    assert cell(text).count("[") == text.count("[")


def test_long_texts_are_capped_and_say_so():
    assert len(escape("y" * 10_000)) < CELL_LIMIT + 30
    assert escape("y" * 10_000).endswith(f"({10_000 - CELL_LIMIT} more)")


def test_plain_words_stay_as_they_are():
    words = string.ascii_letters + string.digits + " ,.;:'\"%()=/?@^-é日"
    assert escape(words) == cell(words) == words
    assert show(" red") == "␣red"
    assert show("\n") == "⏎"
    assert show("") == "∅"
