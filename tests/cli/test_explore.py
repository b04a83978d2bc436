"""handgrad explore, as one calls it: a page on a free port, until Ctrl-C; and beside a run that trains."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

import handgrad
from handgrad.cli import explore

pytest.importorskip("fastapi", reason="exploring is an extra")

COMMAND = [sys.executable, "-m", "handgrad"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    (folder / "book.txt").write_text("To be, or not to be.\n" * 40)
    options = {"n_layers": 1, "d_model": 16, "n_heads": 2, "batch_size": 2, "context_length": 16}
    return handgrad.train(
        folder / "book.txt",
        steps=2,
        out=folder / "run",
        engine="reference",
        report=lambda event: None,
        **options,
    )


def test_the_page_answers_until_ctrl_c(folder):
    command = [*COMMAND, "explore", str(folder), "--port", "0", "--text", "To be"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        url = re.search(r"http://localhost:\d+", line).group()
        with urllib.request.urlopen(f"{url}/api/model") as answer:
            about = json.load(answer)
        assert about["example"] == "To be"
        assert about["has_run"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, -signal.SIGINT, 130)
        assert "Traceback" not in process.stderr.read()


def test_a_run_has_its_page_as_long_as_it_trains(folder):
    with explore.beside(folder) as process:
        assert process.poll() is None
    assert process.poll() is not None


def test_without_what_serves_it_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(explore, "NEEDED", ("fastapi", "no_such_module"))
    with pytest.raises(handgrad.UserError, match=r"pip install"):
        explore.require_installed()
