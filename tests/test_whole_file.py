"""Files are whole or not there; pipes and links stay what they are."""

import os
import threading

import pytest

from tl_nla.errors import InputError
from tl_nla.whole_file import write_json, write_text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are there on POSIX only")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_json({"a": 1}, pipe)
    reader.join(5)
    assert read == ['{\n  "a": 1\n}\n']
    assert pipe.is_fifo()


def test_behind_a_link_the_file_is_replaced(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_text("new", tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        write_text("text", tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        write_text("text", tmp_path / "no" / "file")
