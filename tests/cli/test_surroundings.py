"""The command line where something around it is missing, closed, full or nonsense."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import handgrad
from tests.training import fuzz

NO_HOME = """
import os, pwd, sys
os.environ.pop("HOME", None)
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
from handgrad.cli import main
main()
"""
OPTIONS = [
    part for name, value in fuzz.TINY.items() if name != "engine" for part in ("--set", f"{name}={value}")
]
OPTIONS += ["--engine", "reference", "--preset", "nano"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny run, and its text, which has an umlaut."""
    folder = tmp_path_factory.mktemp("surroundings")
    (folder / "text.txt").write_text(fuzz.TEXT + "ä\n", encoding="utf-8")
    handgrad.train(folder / "text.txt", out=folder / "run", report=lambda _: None, **fuzz.TINY)
    return folder


def run(folder, *args, code=None, env=None, redirected="", **options):
    """Exit code, output and error output of a command, `redirected` as a shell would."""
    program = [sys.executable, *(["-m", "handgrad"] if code is None else ["-c", code])]
    if redirected:
        program = ["sh", "-c", f'exec "$@" {redirected}', "sh", *program]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    done = subprocess.run(
        [*program, *map(str, args)], cwd=folder, env={**os.environ, **(env or {})},
        check=False, timeout=60, **options,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def assert_one_sentence(result, words):
    code, _, err = result
    assert code == 2
    assert err.startswith("handgrad: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_character_that_the_output_cannot_take_is_a_question_mark(folder):
    result = run(folder, "generate", "run", "ä", "--max-tokens", "5", env={"PYTHONIOENCODING": "ascii"})
    assert result[0] == 0
    assert result[1].startswith("?")
    assert result[2] == ""


def test_standard_input_may_be_closed_where_nobody_reads_it(folder):
    assert_one_sentence(run(folder, "train", "-", "--out", "new", redirected="<&-"), "is closed")
    assert run(folder, "info", "run", redirected="<&-")[0] == 0


def test_standard_output_may_be_closed(folder):
    assert run(folder, "generate", "run", "3", "--max-tokens", "5", redirected=">&-") == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.parametrize("args", [("generate", "run", "3"), ("info", "run", "--json")])
def test_a_full_disk_under_the_output_is_said(folder, args):
    with Path("/dev/full").open("w") as full:
        assert_one_sentence(run(folder, *args, stdout=full), "No space left on device")


def test_a_backend_that_matplotlib_does_not_know_is_said_and_the_run_is_saved(folder):
    result = run(folder, "train", "text.txt", "--out", "new", *OPTIONS, env={"MPLBACKEND": "nonsense"})
    assert_one_sentence(result, "Unset MPLBACKEND, and then: handgrad train --resume --out new")
    assert "nonsense" in result[2]
    assert handgrad.resume(folder / "new", report=pytest.fail)
    assert (folder / "new" / "loss.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no passwd")
def test_nobody_needs_a_home(folder):
    code, _, err = run(folder, "train", "text.txt", "--out", "homeless", *OPTIONS, code=NO_HOME)
    assert code == 0
    assert "Traceback" not in err  # matplotlib says that it keeps nothing
    assert run(folder, "generate", "homeless", "3", code=NO_HOME)[::2] == (0, "")


def test_the_folder_one_works_in_is_not_replaced(folder):
    (folder / "empty").mkdir()
    result = run(folder / "empty", "train", "../text.txt", "--out", ".", *OPTIONS)
    assert_one_sentence(result, "folder you work in")
    assert list((folder / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (fuzz.CONFIG, "info RUN"),
        (fuzz.METRICS, "info RUN --json"),
        (fuzz.BEST, "generate RUN 3"),
        (fuzz.material.TOKENS, "train --resume --out RUN"),
    ],
)
def test_a_damaged_file_ends_in_one_sentence(folder, tmp_path, name, command):
    shutil.copytree(folder / "run", tmp_path / "run")
    content = (tmp_path / "run" / name).read_bytes()
    half = len(content) // 2
    (tmp_path / "run" / name).write_bytes(content[:half] + b"\xff\xff\n" + content[half:])
    assert_one_sentence(run(tmp_path, *command.replace("RUN", "run").split()), name)
