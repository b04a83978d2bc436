"""One process at a time: the second is told, and a killed one holds nothing."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from handgrad.errors import UserError
from handgrad.formats import atomic, lock

pytest.importorskip("fcntl", reason="Windows locks nothing")

HOLD = """
import sys, time
from pathlib import Path
from handgrad.formats import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_whoever_comes_second_is_told(tmp_path):
    with lock.held(tmp_path), pytest.raises(UserError, match="Another process is at work in"):
        lock.held(tmp_path).__enter__()
    with lock.held(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="Another process is at work"):
        lock.held(tmp_path).__enter__()
    process.kill()
    process.communicate()
    with lock.held(tmp_path):
        pass


def test_a_folder_that_another_process_is_making_is_left_to_it(tmp_path):
    with atomic.new_folder(tmp_path / "new") as partial:
        (partial / "inner.txt").write_text("text")
        with pytest.raises(UserError, match="Another process is at work"):
            atomic.new_folder(tmp_path / "new").__enter__()
    assert (tmp_path / "new" / "inner.txt").exists()


def test_a_folder_on_a_disk_that_knows_no_locks_is_used_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with lock.held(tmp_path):
        pass


def test_a_folder_that_cannot_be_opened_is_not_used_unlocked(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock.held(tmp_path / "missing").__enter__()


def test_a_folder_that_another_process_swept_away_is_not_filled(tmp_path, monkeypatch):
    opened = os.open

    def sweep(path, *args):
        Path(path).rmdir()
        return opened(path, *args)

    monkeypatch.setattr(os, "open", sweep)
    with pytest.raises(UserError, match="Cannot write"):
        atomic.new_folder(tmp_path / "new").__enter__()
