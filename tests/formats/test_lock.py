"""One process at a time: the second is told, and a killed one holds nothing."""

import subprocess
import sys

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
    with lock.held(tmp_path), pytest.raises(UserError, match=r"One process at a time .* at work in"):
        lock.held(tmp_path).__enter__()
    with lock.held(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="One process at a time"):
        lock.held(tmp_path).__enter__()
    process.kill()
    process.communicate()
    with lock.held(tmp_path):
        pass


def test_a_folder_that_another_process_is_making_is_left_to_it(tmp_path):
    with atomic.new_folder(tmp_path / "new") as partial:
        (partial / "inner.txt").write_text("text")
        with pytest.raises(UserError, match="One process at a time"):
            atomic.new_folder(tmp_path / "new").__enter__()
    assert (tmp_path / "new" / "inner.txt").exists()


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(tmp_path):
    with lock.held(tmp_path / "missing"):
        pass
