"""Documents come from anywhere and are split by their text alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_nla.data import Document, dataset_documents, load_documents, split_documents, text_file_documents
from tl_nla.errors import InputError
from tl_nla.storyworld.documents import world_documents


def test_world_documents_are_the_same_every_time():
    assert world_documents(3, 7) == world_documents(5, 7)[:3]
    assert {d.text for d in world_documents(20, 7)}.isdisjoint(d.text for d in world_documents(20, 8))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30), st.randoms())
def test_split_depends_on_the_text_alone(texts, random):
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    train, held = split_documents(documents, 0.3)
    assert sorted(d.id for d in train + held) == sorted(d.id for d in documents)
    assert {d.text for d in train}.isdisjoint(d.text for d in held)
    random.shuffle(documents)
    assert {d.text for d in split_documents(documents, 0.3)[1]} == {d.text for d in held}


def test_share_held_out():
    _, held = split_documents(world_documents(600, 3), 0.1)
    assert 30 <= len(held) <= 95


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_refuses_a_share_that_is_none(share):
    with pytest.raises(InputError, match="between 0 and 1"):
        split_documents(world_documents(2), share)


def test_files(tmp_path):
    (tmp_path / "a.txt").write_text("One.\nStill one.\n\n\n\nTwo ㈎.\n")
    assert [d.text for d in text_file_documents(tmp_path / "a.txt")] == ["One.\nStill one.", "Two ㈎."]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in ("x", "y")) + "\n\n")
    assert [d.text for d in load_documents(str(tmp_path / "a.jsonl"), 10)] == ["x", "y"]
    assert len(load_documents(str(tmp_path / "a.txt"), 1)) == 1
    assert [d.text for d in dataset_documents([{"body": "z"}], "body")] == ["z"]


def test_a_local_dataset(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "first"}\n{"text": "second"}\n')
    assert [d.text for d in load_documents(f"dataset:{tmp_path}:train", 5)] == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "line 2"),
        ("a.jsonl", b'{"words": "x"}\n', "text"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8"),
        ("a.txt", b"  \n\n ", "no text"),
    ],
)
def test_bad_files(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_documents(str(tmp_path / name), 10)


def test_missing_source():
    with pytest.raises(InputError, match=r"nothing\.txt"):
        load_documents("nothing.txt", 10)
