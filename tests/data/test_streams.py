import json

import pytest

from tl_nla.data import load_documents
from tl_nla.data.streams import stream_documents
from tl_nla.errors import InputError


@pytest.mark.parametrize("limit", [3, 100])
@pytest.mark.parametrize("name", ["text.txt", "rows.jsonl"])
def test_streams_are_the_documents_of_the_list(name, limit, tmp_path):
    texts = [f"Text {n}.\nIts second line." for n in range(8)]
    (tmp_path / "text.txt").write_text("\n\n" + "\n\n\n".join(texts) + "\n")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts) + "\n\n")
    source = str(tmp_path / name)
    found = list(stream_documents(source, limit))
    assert found == load_documents(source, limit)
    assert len(found) == min(limit, 8)


def test_the_world_is_streamed_too():
    assert list(stream_documents("world", 3, seed=2)) == load_documents("world", 3, seed=2)
    with pytest.raises(InputError, match="no last story"):
        stream_documents("world")


@pytest.mark.parametrize(
    ("content", "says"), [(b"{", "line 1: not JSON"), (b'{"a": 1}', "no field 'text'"), (b"\xff\xfe", "not UTF-8")]
)
def test_bad_rows_are_named(content, says, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(stream_documents(str(tmp_path / "rows.jsonl")))
    with pytest.raises(InputError, match="no source"):
        stream_documents(str(tmp_path / "missing.txt"))
