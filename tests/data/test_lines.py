"""Lines are what a file's line feeds make of it; whatever is no text is refused by its line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.data import dataset_documents, load_documents, text_file_documents
from tl_nla.data.lines import json_rows, text_lines
from tl_nla.data.streams import stream_documents
from tl_nla.errors import InputError

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""Characters at which ``str.splitlines`` splits; JSON strings may hold them as they stand (the last three escaped)."""


def both(path, field="text"):
    """The same file read as a list and as a stream."""
    found = [document.text for document in load_documents(str(path), 1000)]
    assert found == [document.text for document in stream_documents(str(path))]
    return found


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_separators_in_strings_end_no_line(tmp_path, ending):
    texts = [f"a{sign}b" for sign in SEPARATORS] + ["last"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "a.jsonl").write_bytes((ending.join(lines) + ending).encode())
    assert both(tmp_path / "a.jsonl") == texts
    (tmp_path / "a.txt").write_bytes((ending * 2).join(texts).encode())
    assert both(tmp_path / "a.txt") == texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_comes_back(texts):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        assert both(path) == texts


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    content = '{"text": "\ufefffirst"}' if name == "a.jsonl" else "\ufefffirst"
    (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")
    assert both(tmp_path / name) == ["\ufefffirst"], "only the first one is a mark"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"text": null}', "line 2: the field 'text' is null"),
        (b'{"text": 5}', "line 2: the field 'text' is int"),
        (b'{"text": ["a"]}', "line 2: the field 'text' is list"),
        (b'{"body": "a"}', "line 2 has no field 'text'; it has body"),
        (b'{}', "line 2 has no field 'text'; it has none"),
        (b'["text"]', "line 2 holds no object but a list"),
        (b'"text"', "line 2 holds no object but a str"),
        (b'{"text": "\\ud83d"}', r"line 2: the field 'text' holds half a character \(a lone surrogate U\+D83D"),
        (b'{"text": "a\xffb"}', r"line 2 is not UTF-8 \(byte 0xff at place 11\)"),
        (b'{"text": ', "line 2: not JSON"),
        (b"[" * 100_000, "line 2: not JSON"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_rows_are_refused_by_line(tmp_path, line, says):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n' + line + b"\n")
    for read in (lambda path: load_documents(path, 10), lambda path: list(stream_documents(path))):
        with pytest.raises(InputError, match=says):
            read(str(tmp_path / "a.jsonl"))


def test_rows_of_a_data_set_too():
    with pytest.raises(InputError, match="row 1 of the data set: the field 'text' is null"):
        dataset_documents([{"text": "a"}, {"text": None}])
    with pytest.raises(InputError, match="row 0 of the data set has no field 'text'"):
        dataset_documents([{"body": "a"}])


def test_good_rows_before_the_bad_one_are_streamed(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n\n{"text": "y"}\n\xff\n')
    stream = stream_documents(str(tmp_path / "a.jsonl"))
    assert [next(stream).text, next(stream).text] == ["x", "y"]
    with pytest.raises(InputError, match="line 4"):
        next(stream)


def test_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match="no file"):
        text_file_documents(tmp_path / "none.txt")
    with pytest.raises(InputError, match="cannot be read"):
        list(text_lines(tmp_path))
    (tmp_path / "a.jsonl").write_text("1\n")
    assert list(json_rows(tmp_path / "a.jsonl")) == [(f"{tmp_path}/a.jsonl, line 1", 1)]


def test_steering_prompts_are_read_alike(tmp_path):
    from lightning_modules.training.steering import SteeringPrompts

    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "a\u2028b", "rewrite": "x->y"}, {"prompt": "c", "expect": "d"}]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\ufeff" + text + "\n", encoding="utf-8")
    assert [one.prompt for one in SteeringPrompts(str(path)).prompts] == ["a\u2028b", "c"]
    for bad in ('{"prompt": null, "rewrite": "a->b"}', '{"prompt": "a", "expect": 3}', '{"prompt": "a"}', "[1]"):
        path.write_text(text + "\n" + bad, encoding="utf-8")
        with pytest.raises(InputError, match="line 4: "):
            SteeringPrompts(str(path))
