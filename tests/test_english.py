"""The measure of the English: what counts as a sentence, and what is complained about."""

from tests.english import MOST_WORDS, avoided, complaints, length, long_messages, messages, sentences, words

PAGE = """# A heading that is no sentence

One two three. `Four five six` seven
eight! See [nine ten](a/very/long/link.md), about 0.94 or e.g. this.

| a table | is left out |
|---|---|

- an item
- another
  that goes on

```python
code = "is left out"
```

    indented code is left out

<!-- a comment -->
"""


def test_sentences_of_a_page():
    found = sentences(PAGE)
    assert found[:3] == ["One two three.", "`code` seven eight!", "See nine ten, about 0.94 or e.g this."]
    assert found[3:] == ["an item", "another that goes on"]
    assert [words(one) for one in found] == [3, 3, 8, 2, 4]


def test_fields_of_a_docstring_are_sentences():
    found = sentences("Do it.\n\nArgs:\n    first: one\n        two\n    second: three\n\nReturns:\n    Four.\n")
    assert found == ["Do it.", "one two", "three", "Four."]


def test_the_95th_percentile_counts():
    short, long = "One two. ", "Word " * (MOST_WORDS + 1) + ". "
    assert length(sentences(short * 95 + long * 5)) == 2
    assert not complaints("page", short * 95 + long * 5, {})
    (told,) = complaints("page", short * 90 + long * 10, {})
    assert "have up to 26 words" in told


def test_avoided_words_are_found_in_prose_only():
    banned = avoided()
    assert {"whoever", "leverage", "via"} <= set(banned)
    (told,) = complaints("page", "This is sent via mail. `via` is code.", banned)
    assert "'via' is avoided" in told
    assert not complaints("page", "A viaduct.\n\n```\nvia\n```\n", banned)


MODULE = '''
def give(name, parser):
    """A docstring is no message."""
    parser.add_argument("--name", help="what it is called " + "here (default: %(default)s)")
    if not name:
        raise ValueError(f"{name!r} is no name: " f"give {len(name)} letters" if name is None else "no") from None
    raise KeyError(name)
'''


def test_what_errors_and_help_texts_say_is_read(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    assert set(messages(path)) == {"X is no name: give X letters", "what it is called here (default: X)"}


def test_each_sentence_of_a_message_counts():
    long = "word " * (MOST_WORDS + 1)
    (told,) = long_messages("module.py", ["Short one."] * 99 + [f"Fine. {long.capitalize()}"], {})
    assert "26 words in a message" in told
    (told,) = long_messages("module.py", ["sent via mail"], avoided())
    assert "'via' is avoided" in told
    assert not long_messages("module.py", [f"{'word ' * MOST_WORDS}. Then another."], {})
