"""What is written is whole or absent, and what the disk refuses is explained."""

import errno
import os
from pathlib import Path

import pytest

from handgrad.errors import UserError
from handgrad.formats import atomic


def test_a_failure_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")

    def break_off(partial):
        partial.write_text("ne")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomic.write(path, break_off)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_what_a_kill_left_is_swept_out_by_the_next_write(tmp_path):
    path = tmp_path / "file.txt"
    left = tmp_path / f".file.txt{atomic.PARTIAL}"
    left.mkdir()
    (left / ".tmpQ0o0YO").write_text("half of a library's own temporary file")
    atomic.write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "may not write"), (errno.EIO, "Input/output")],
)
def test_what_the_disk_refuses_is_explained_and_nothing_is_lost(tmp_path, number, words):
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")

    def refuse(partial):
        partial.write_text("ne")
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=words):
        atomic.write(path, refuse)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_path_through_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        atomic.write_text(tmp_path / "file" / "inner.txt", "text")


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
    def fill(break_off):
        with atomic.new_folder(tmp_path / "new") as partial:
            (partial / "inner.txt").write_text("text")
            assert not (tmp_path / "new" / "inner.txt").exists()
            if break_off:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fill(break_off=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f".new{atomic.PARTIAL}").mkdir()  # what a kill left
    (tmp_path / "new").mkdir()
    fill(break_off=False)
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["new", "new/inner.txt"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(UserError, match="not empty"), atomic.new_folder(tmp_path):
        pytest.fail("it was made")
    assert (tmp_path / "file.txt").read_text() == "old"


def test_the_folder_one_works_in_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", "inner/..", tmp_path):
        with pytest.raises(UserError, match="folder you work in"):
            atomic.free(Path(name))


@pytest.mark.parametrize("name", ["a\0b", "link"])
def test_what_is_no_path_is_said(tmp_path, name):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    with pytest.raises(UserError, match="is no path"):
        atomic.free(tmp_path / name)


def test_a_link_that_leads_to_itself_is_said_where_python_says_nothing(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    monkeypatch.setattr(Path, "resolve", Path.absolute)  # as Python 3.13 has it for such a link
    with pytest.raises(UserError, match="leads to itself"):
        atomic.free(tmp_path / "link")
