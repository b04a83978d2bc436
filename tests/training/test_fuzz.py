"""Of some hundred damaged files every one works or is refused in a sentence: see fuzz.py for thousands."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows counts no memory this way")

from handgrad.data import files
from tests.training import fuzz

N = 60


@pytest.mark.parametrize("name", fuzz.FILES)
def test_every_damaged_file_works_or_is_refused_in_a_sentence(name):
    # a process of its own: the most memory that this one ever had is another test's
    command = [sys.executable, "-m", "tests.training.fuzz", str(N), name]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'refused'" in done.stdout


def test_a_hang_is_a_failure_also_while_a_file_is_read(stopped_run, monkeypatch):
    def hang(folder):
        with files.readable(folder):
            while True:
                pass

    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    with fuzz.surroundings():
        outcome = fuzz._outcome(hang, stopped_run, fuzz.CONFIG, 0)
    assert isinstance(outcome, fuzz.Failure)
    assert "it hangs" in outcome.error


def test_the_same_seed_damages_in_the_same_way(stopped_run):
    for name in fuzz.FILES:
        content = (stopped_run / name).read_bytes()
        damaged = [fuzz.damage(name, content, seed) for seed in range(20)]
        assert damaged == [fuzz.damage(name, content, seed) for seed in range(20)]
        assert len(set(damaged)) > 10
