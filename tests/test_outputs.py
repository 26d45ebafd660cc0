"""What cannot be written is found out at once, and asking leaves nothing behind."""

import os

import pytest

from tests.read_only import read_only_folder  # noqa: F401 (a fixture)
from tl_nla.errors import InputError
from tl_nla.outputs import check_file, check_folder, check_replaceable


def test_a_folder_that_can_be_made_is_not_made(tmp_path):
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list(tmp_path.iterdir())


def test_a_file_on_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file' is no folder"):
        check_folder(tmp_path / "file" / "runs")


def test_a_read_only_folder_is_refused(read_only_folder):  # noqa: F811
    for path in (read_only_folder, read_only_folder / "a" / "b"):
        with pytest.raises(InputError, match=r"cannot write to .*(denied|[Rr]ead-only)"):
            check_folder(path)
    with pytest.raises(InputError, match="cannot write to"):
        check_file(read_only_folder / "a.json")
    with pytest.raises(InputError, match="cannot write to"):
        check_replaceable(read_only_folder / "oracle", "oracle.yaml")


def test_files(tmp_path):
    (tmp_path / "there.json").write_text("old")
    assert check_file(tmp_path / "there.json").read_text() == "old"
    check_file(tmp_path / "new.json")
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    with pytest.raises(InputError, match="it is a folder"):
        check_file(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        check_file(tmp_path / "no" / "new.json")
    with pytest.raises(InputError, match="the name is too long; give one of 240 bytes"):
        check_file(tmp_path / ("n" * 241))


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_links(tmp_path):
    for name, goal in (("good", tmp_path / "new.json"), ("bad", tmp_path / "no" / "new.json")):
        (tmp_path / name).symlink_to(goal)
    assert check_file(tmp_path / "good") == tmp_path / "good"
    with pytest.raises(InputError, match=r"there is no folder '.*no'"):
        check_file(tmp_path / "bad")
    assert check_file(os.devnull).exists()


def test_only_folders_of_the_kind_are_replaced(tmp_path):
    folder = tmp_path / "mine"
    assert check_replaceable(folder, "about.yaml") == folder
    folder.mkdir()
    check_replaceable(folder, "about.yaml")
    (folder / "other").write_text("")
    with pytest.raises(InputError, match="holds 'other', which would be lost"):
        check_replaceable(folder, "about.yaml")
    (folder / "about.yaml").write_text("")
    check_replaceable(folder, "about.yaml")
    with pytest.raises(InputError, match="holds 'other', which would be lost"):
        check_replaceable(folder, "about.yaml", ("about.yaml",))
