"""handgrad lessons: what there is, copies that nobody overwrites, and one run from top to bottom."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from handgrad import cli
from handgrad.lessons import again, catalog, exercise, knobs, source
from handgrad.ops import sigmoid

needs_jupyter = pytest.mark.usefixtures("jupyter")


@pytest.fixture(scope="module")
def jupyter():
    for package in ("jupytext", "nbclient", "ipykernel", "ipywidgets"):
        pytest.importorskip(package, reason="lessons want the extra [lessons]")


@pytest.fixture
def lessons(monkeypatch, capfd, tmp_path):
    """Run `handgrad lessons` in an empty folder; exit code, output, error output."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["handgrad", "lessons", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def two_cells(monkeypatch, tmp_path):
    """A catalogue of one lesson of two cells, whose code is what the test wants."""

    def write(code):
        folder = tmp_path / "course"
        folder.mkdir()
        text = f"# %% [markdown]\n# # 1. Short\n#\n# *After this lesson you can\n# count.*\n\n# %%\n{code}\n"
        (folder / "01_short.py").write_text(text)
        monkeypatch.setattr(catalog, "INSTALLED", folder)

    return write


def test_the_list_names_every_lesson(lessons):
    code, out, _ = lessons("--list")
    assert code == 0
    assert all(lesson.title.split()[0] in out for lesson in catalog.lessons())
    rows = [json.loads(line) for line in lessons("--list", "--json")[1].splitlines()]
    assert [row["number"] for row in rows] == [lesson.number for lesson in catalog.lessons()]


def test_a_goal_is_read_over_its_lines(two_cells):
    two_cells("1 + 1")
    (lesson,) = catalog.lessons()
    assert (lesson.title, lesson.goal) == ("Short", "count")


def test_an_unknown_lesson_is_said_in_one_sentence(lessons):
    code, out, err = lessons("--run", 99)
    assert (code, out) == (2, "")
    assert "There is no lesson 99" in err


@needs_jupyter
def test_a_lesson_is_run_from_top_to_bottom(lessons, two_cells):
    two_cells("1 + 1")
    code, out, err = lessons("--run", 1)
    assert code == 0, err
    assert out.startswith("Lesson 1, Short, runs from top to bottom")
    assert "WARNING" not in err


@needs_jupyter
def test_a_lesson_that_stops_says_where(lessons, two_cells):
    two_cells("1 / 0")
    code, out, err = lessons("--run", 1)
    assert (code, out) == (2, "")
    assert "Lesson 1 stopped" in err
    assert "\n1 / 0\n" in err  # its traceback is shown in lines


@needs_jupyter
@pytest.mark.skipif(os.name == "nt", reason="Windows has only ports")
def test_a_lesson_needs_no_port_that_another_process_could_take(lessons, two_cells):
    two_cells("from ipykernel.kernelapp import IPKernelApp\nassert IPKernelApp.instance().transport == 'ipc'")
    assert lessons("--run", 1)[0] == 0


@needs_jupyter
def test_copies_are_notebooks_and_what_one_wrote_there_stays(tmp_path, two_cells):
    two_cells("1 + 1")
    (path,) = catalog.copy(tmp_path / "mine")
    notebook = json.loads(path.read_text())
    assert [cell["cell_type"] for cell in notebook["cells"]] == ["markdown", "code"]
    path.write_text("mine")
    catalog.copy(tmp_path / "mine")
    assert path.read_text() == "mine"


@needs_jupyter
def test_a_lesson_is_copied_anew_and_what_one_wrote_there_is_kept(lessons, two_cells, tmp_path):
    two_cells("1 + 1")
    assert lessons("--reset", 1, "here")[0] == 0
    path = tmp_path / "here" / "01_short.ipynb"

    def cells():
        return [cell["source"] for cell in json.loads(path.read_text())["cells"]]

    fresh = cells()
    for n in (1, 2):
        path.write_text(f"mine {n}")
        code, out, _ = lessons("--reset", 1, "here")
        assert code == 0
        assert f"01_short-before-{n}.ipynb" in out
        assert cells() == fresh
        assert path.with_name(f"01_short-before-{n}.ipynb").read_text() == f"mine {n}"


@needs_jupyter
def test_jupyter_is_opened_at_the_lesson_that_was_asked_for(lessons, two_cells, monkeypatch, tmp_path):
    two_cells("1 + 1")
    monkeypatch.setattr(catalog, "require", lambda package: None)
    opened = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: opened.append(command) or 0)
    assert lessons("here", "--no-browser")[0] == 0
    ((_, *command),) = opened
    assert command[:2] == ["-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={tmp_path / 'here'}" in command
    assert "--LabApp.default_url=/lab/tree/01_short.ipynb" in command
    assert "--no-browser" in command
    assert (tmp_path / "here" / "01_short.ipynb").exists()


def test_without_jupyter_one_sentence_says_what_to_install(lessons, two_cells, monkeypatch):
    two_cells("1 + 1")
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    code, _, err = lessons()
    assert code == 2
    assert "pip install 'handgrad[lessons]'" in err


def test_source_is_the_librarys_own_with_its_place():
    shown = repr(source.show(sigmoid.backward))
    assert shown.startswith("# ops/sigmoid.py, line ")
    assert "return (dy * y * (1.0 - y),)" in shown


def test_knobs_on_a_page_are_pictures_made_beforehand(monkeypatch):
    class Drawn:
        def __init__(self, **values):
            self.values = values

        def _repr_png_(self):
            return repr(self.values).encode(), {"width": 620}

    monkeypatch.setenv(knobs.ON_A_PAGE, "1")
    page = knobs.turn(Drawn, rate=[0.1, 0.5], method=["it's", "b"])
    assert [picture.values for picture in page.pictures] == [
        {"rate": rate, "method": method} for rate in (0.1, 0.5) for method in ("it's", "b")
    ]
    shown = page._repr_html_()
    assert shown.count('width="620"') == 4  # as large as they were drawn
    assert 'alt="A picture; rate 0.5, method b"' in shown
    assert "it's" not in shown.split("<script>")[0]  # it would end the attribute that holds the labels


RUN_ONLY = """
from handgrad.lessons import knobs

class Drawn:
    def __init__(self, rate):
        self.rate = rate

    def _repr_png_(self):
        return b"", {"width": 10}

knobs.turn(Drawn, rate=[1, 2])
"""


def test_a_lesson_that_is_only_run_has_pictures_in_the_place_of_widgets(jupyter, monkeypatch, tmp_path):
    """Widgets make nbclient miss a cell's end."""
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.delenv(knobs.ON_A_PAGE, raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(RUN_ONLY)])
    ran = catalog.run(catalog.find(2), folder=tmp_path, notebook=notebook)
    ((shown,),) = (cell.outputs for cell in ran.cells)
    assert shown.data["text/html"].count("<img") == 2


def pictures_shown(client, code):
    """What a cell displays as a picture."""
    shown = []

    def look(message):
        content = message["content"]
        assert message["msg_type"] != "error", content["traceback"]
        if message["msg_type"] == "display_data" and "image/png" in content["data"]:
            shown.append(content)

    client.execute_interactive(code, timeout=60, output_hook=look)
    return shown


@pytest.fixture
def kernel(jupyter, monkeypatch):
    """A client of a kernel such as Jupyter starts for a notebook.

    Not by nbclient: it answers a widget's messages on the socket on which it waits for the cell's end, and on
    a busy machine it misses that end.
    """
    from jupyter_client.manager import KernelManager

    monkeypatch.delenv(knobs.ON_A_PAGE, raising=False)
    with tempfile.TemporaryDirectory(prefix="handgrad-", ignore_cleanup_errors=True) as folder:
        manager = KernelManager(**catalog.connection(Path(folder)))
        manager.start_kernel()
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield client
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_knob_that_is_turned_in_jupyter_shows_another_picture(kernel):
    """In a kernel, with pyplot imported, which has its own way to show figures."""
    assert pictures_shown(kernel, "import matplotlib.pyplot") == []
    imports = "from handgrad.lessons import knobs\nfrom handgrad.plots import activations\n"
    (first,) = pictures_shown(
        kernel, imports + "turned = knobs.turn(activations.curve, name=['relu', 'tanh'])\nturned"
    )
    (second,) = pictures_shown(kernel, "turned.children[0].value = 'tanh'")
    assert first["metadata"]["image/png"]["width"] > 100
    assert first["data"]["image/png"] != second["data"]["image/png"]


def test_a_word_in_an_answers_cell_brings_back_what_stood_there_at_first(kernel):
    def payload(code, cell):
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": True}
        request = kernel.session.msg("execute_request", content, metadata={"cellId": cell})
        kernel.shell_channel.send(request)
        while (reply := kernel.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != request["msg_id"]:
            pass
        assert reply["content"]["status"] == "ok", reply["content"]
        return reply["content"]["payload"]

    assert payload("from handgrad.lessons import exercise", "any") == []
    (put,) = payload("%again", "lesson-0-answer-1")
    assert (put["source"], put["replace"], put["text"]) == ("set_next_input", True, "n_characters = ...")
    assert payload("%again", "a cell that is none of ours") == []


@needs_jupyter
def test_a_solution_that_is_folded_away_gives_nothing_away():
    """JupyterLab shows the first line of a folded cell."""
    cells = [cell for lesson in catalog.lessons() for cell in catalog.as_notebook(lesson).cells]
    folded = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
    assert {cell.source.splitlines()[0] for cell in folded} == {catalog.OURS}
    assert all(cell.metadata["jupyter"]["source_hidden"] for cell in folded)


@needs_jupyter
def test_every_answers_cell_has_a_name_and_what_stood_there_is_found_by_it():
    for lesson in catalog.lessons():
        cells = [c for c in catalog.as_notebook(lesson).cells if "exercise" in c.metadata.get("tags", [])]
        assert [again.original(cell.id) for cell in cells] == [cell.source for cell in cells]
        assert len(cells) > 1
        assert again.original(f"lesson-{lesson.number}-answer-{len(cells) + 1}") is None


@needs_jupyter
def test_knobs_in_jupyter_are_sliders_that_begin_at_the_first_value(monkeypatch):
    monkeypatch.delenv(knobs.ON_A_PAGE, raising=False)
    widget = knobs.turn(lambda learning_rate: learning_rate, learning_rate=[0.1, 0.2, 0.3])
    (slider, _) = widget.children
    assert (slider.value, slider.description) == (0.1, "learning rate")


def test_a_verdict_in_a_terminal_is_a_line():
    assert "\n" not in repr(exercise.value(1, lambda: 2))
