"""The explorer's page in a real browser: every view, its numbers those of the library, its keys and files."""

import contextlib
import csv
import hashlib
import json
import re
import shutil
import threading
import time
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.explore import experiments, learning, server
from handgrad.explore.explorer import Explorer
from handgrad.formats import hugging_face
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.serve.server import listen
from handgrad.tokenizer.bpe import BPETokenizer
from handgrad.trace import ablate, attribute, explain_score, logit_lens, patch, zero

sync_api = pytest.importorskip("playwright.sync_api", reason="looking at the page wants playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="looking at the page wants Chromium")

TEXT, TARGET = "To be, or ", "n"
WIDTHS = (390, 1280)
VIEWS = ("Prediction", "Attention", "Next token", "Backward", "Inside", "Learning")
STORIES = Path(__file__).parents[3] / "shared" / "data" / "stories260K" / "stories260K.bin"
VENDOR = Path(server.__file__).parent / "static" / "vendor"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@contextlib.contextmanager
def served(explorer):
    """The address of a server that answers in a thread of this process."""
    with listen("127.0.0.1", 0) as listening:
        listening.listen()
        serving = server.server(explorer)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://localhost:{listening.getsockname()[1]}"
        serving.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(explorer):
    with served(explorer) as url:
        yield url


def error_of(said):
    """Without requests that the server refuses: the page says why."""
    return [said.text] if said.type == "error" and "status of 400" not in said.text else []


@pytest.fixture
def page(browser):
    """Nothing is fetched from elsewhere, and nothing goes wrong."""
    with browser.new_context(reduced_motion="reduce") as context:
        page = context.new_page()
        page.set_default_timeout(5000)
        problems, own = [], ("http://localhost:", "data:", "blob:")
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.extend(error_of(said)))
        page.on("request", lambda r: None if r.url.startswith(own) else problems.append(r.url))
        yield page
        assert problems == []


@pytest.fixture
def show(page, url):
    """Open a view, by what stands in its link."""
    return lambda view, **state: opened(page, url, view, **state)


def opened(page, url, view, text=TEXT, **state):
    page.goto("about:blank")
    page.goto(f"{url}/#{urllib.parse.urlencode({'view': view, 'text': text, **state})}")
    page.locator("main h2").wait_for()
    finished(page)
    return page


@pytest.fixture(scope="module", params=["stories260K", "GPT-2's shape"])
def other(request, tmp_path_factory):
    """Models from elsewhere: grouped queries and a vocabulary of pieces; learned positions and biases."""
    if request.param == "stories260K":
        if not STORIES.exists():
            pytest.skip("the model is not among the package's files")
        return Explorer(str(STORIES))
    folder, rng = tmp_path_factory.mktemp("gpt2"), np.random.default_rng(0)
    tokenizer = BPETokenizer.train(["Once upon a time there was a model. " * 9], 280)
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 4, "context_length": 64}
    config = PRESETS["gpt2"].replace(vocab_size=tokenizer.vocab_size, **sizes)
    weights = tree.map(lambda w: w + 0.1 * rng.normal(size=w.shape).astype(w.dtype), init(config, rng))
    return Explorer(str(hugging_face.save(Model(config, weights, tokenizer), folder / "model")))


@pytest.fixture(scope="module")
def trace(explorer):
    return handgrad.trace(explorer.held.model(), TEXT, TARGET)


def finished(page):
    """Once everything that the view shows has come."""
    expect(page.locator("main[aria-busy], main [aria-busy]")).to_have_count(0)


def expect(locator):
    return sync_api.expect(locator)


def number(text):
    """The last number of a sentence, as the page writes them."""
    return float(re.findall(r"[−-]?\d[\d.]*(?:e[−-]?\d+)?", text)[-1].replace("−", "-"))


def close(shown):
    """To the six digits that the page shows."""
    return pytest.approx(np.asarray(shown), rel=1e-5, abs=1e-9)


def cell(canvas, *keys):
    """What is read of the cell that these keys lead to."""
    canvas.focus()
    for key in ("Home", *keys):
        canvas.press(key)
    return number(canvas.get_attribute("aria-label"))


def test_every_view_opens_without_an_error_on_a_phone_and_on_a_screen_in_light_and_dark(show):
    page = show("prediction", target=TARGET, other="or to be, ")
    widths = WIDTHS * 3 + WIDTHS[::-1] * 3  # the other width in the dark
    for name, width, colours in zip(VIEWS * 2, widths, ["Light"] * 6 + ["Dark"] * 6, strict=True):
        page.set_viewport_size({"width": width, "height": 800})
        page.get_by_label("Colours").select_option(colours)
        page.get_by_role("navigation").get_by_role("link", name=name).click()
        page.get_by_role("heading", name=name, exact=True, level=2).wait_for()
        finished(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".problem").all_inner_texts() == []
        assert_for_people(page)


def test_without_a_target_nothing_is_said_of_one(show):
    assert_for_people(show("inside"))


def assert_for_people(page):
    """Nothing is shown that only a program says."""
    assert not re.search(r"\b(null|undefined|NaN)\b|\[object", page.locator("main").inner_text())


def test_models_from_elsewhere_are_shown_in_every_view_with_the_librarys_numbers(page, other):
    text, layers = "Once upon a time", other.held.model().config.n_layers
    trace = handgrad.trace(other.held.model(), text, 5)
    with served(other) as url:
        opened(page, url, "attention", text, targetId=5, layer=1, head=3)
        probs = trace.value("blocks.1.attention.probs")[3]
        assert cell(page.locator(".panel canvas").first, "PageDown", "ArrowRight") == close(probs[-1, 1])

        opened(page, url, "backward", text, targetId=5)
        stream = page.get_by_role("region", name="Gradient by state of the stream").locator("canvas").first
        gradient = trace.gradient("embedding")[-1].astype(np.float64)
        assert cell(stream, "PageUp", "End") == close(np.sqrt(np.mean(gradient**2)))

        opened(page, url, "prediction", text, targetId=5, site=f"blocks.{layers - 1}.feed_forward.hidden")
        expect(page.locator(".panel dd")).to_have_count(8)
        value = trace.value(f"blocks.{layers - 1}.feed_forward.hidden")
        assert number(page.locator(".panel dd").nth(1).inner_text()) == close(value.min())

        opened(page, url, "next", text)
        logit = page.locator(".choices button").first.get_attribute("title").split("·")[1]
        assert number(logit) == close(trace.logits[-1].max())

        opened(page, url, "inside", text, targetId=5)
        without = page.get_by_role("region", name="What is missing").locator("canvas").first
        assert cell(without, "End") == close(ablate(other.held.model(), text, 5).effect[-1, -1])
        assert page.locator(".problem").all_inner_texts() == []
        assert page.get_by_role("link", name="Learning").count() == 0


@pytest.mark.parametrize("view", ["prediction", "attention", "next", "backward", "inside", "learning"])
def test_nothing_serious_keeps_people_from_using_a_view(show, view):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="wants axe-playwright-python")
    found = axe.Axe().run(show(view, target=TARGET)).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []


def test_a_part_shows_its_values_and_as_their_mirror_image_its_gradients(show, trace):
    page = show("prediction", target=TARGET, site="blocks.1.attention.probs", head=1)
    value, gradient = trace["blocks.1.attention.probs"]
    forward = page.get_by_role("region", name="Forward").locator("canvas").first
    backward = page.get_by_role("region", name="Backward").locator("canvas").first
    down = ["PageDown", "PageDown", "End"]
    assert cell(forward, *down, "ArrowLeft") == close(value[1, -1, -2])
    assert number(backward.get_attribute("aria-label")) == close(gradient[1, -1, -2])  # it follows
    assert cell(backward, *down) == close(gradient[1, -1, -1])
    forward.press("ArrowUp")
    forward.press("End")
    assert "cannot see it" in forward.get_attribute("aria-label")

    page.locator("[data-block='2']").click()
    page.locator("[data-site='blocks.2.feed_forward.hidden']").click()
    page.get_by_role("heading", name="blocks.2.feed_forward.hidden").wait_for()
    expect(page.locator(".panel dd")).to_have_count(8)
    found = [number(text) for text in page.locator(".panel dd").all_inner_texts()]
    for shown, array in zip((found[:4], found[4:]), trace["blocks.2.feed_forward.hidden"], strict=True):
        rms = np.sqrt(np.mean(np.square(array, dtype=np.float64)))
        assert shown == close([rms, array.min(), array.max(), array.mean(dtype=np.float64)])
    assert page.locator(".panel .katex").count() > 2
    assert page.locator(".panel pre").first.inner_text().startswith("def forward")

    page.reload()  # the link is the state
    page.get_by_role("heading", name="blocks.2.feed_forward.hidden").wait_for()


def test_attention_is_the_librarys_as_a_map_from_a_token_and_as_the_mean_of_heads(show, trace, explorer):
    probs = trace.value("blocks.1.attention.probs")
    page = show("attention", target=TARGET, layer=1, head=1)
    most = int(probs[1, -1].argmax())
    sentence = page.locator(".panel .sentence").inner_text()
    assert f"({len(trace.tokens) - 1}) looks most at" in sentence
    assert f"({most}):" in sentence
    everywhere = np.mean(
        [trace.value(f"blocks.{i}.attention.probs")[:, -1].mean(axis=0) for i in range(3)], axis=0
    )
    assert f"({everywhere.argmax()}):" in page.get_by_text("On average").inner_text()
    canvas = page.locator(".panel canvas").first
    assert cell(canvas, "PageDown", "ArrowRight") == close(probs[1, -1, 1])
    canvas.press("Enter")
    page.get_by_role("heading", name="Why does it look there?").wait_for()
    shares = [number(text) for text in page.locator(".pairs tbody .number").all_inner_texts()]
    best = explain_score(trace, 1, 1, len(trace.tokens) - 1, 1).strongest(8)
    assert shares == close([share for _, _, share in best])

    page.get_by_label("Mean of the layer’s heads").press("Space")
    page.get_by_text("Layer 1, mean of its heads:").wait_for()
    expect(page.get_by_label("Mean of the layer’s heads")).to_be_focused()  # drawn anew, it stays there
    assert cell(page.locator(".panel canvas").first, "PageDown") == close(probs.mean(axis=0)[-1, 0])

    page.get_by_role("radio", name="from a token", exact=True).check()
    page.locator(".roomy").wait_for()
    page.locator(".roomy [data-i='3']").click()
    label = page.locator(".roomy [data-i='2']").get_attribute("aria-label")
    assert number(label) == close(probs.mean(axis=0)[[-1, 3], 2].mean())


def test_settings_change_what_may_come_next_and_a_token_that_is_chosen_is_appended(show, trace):
    page = show("next", temperature=0.5)
    first = page.locator(".choices button").first
    scaled = np.exp(trace.logits[-1].astype(np.float64) / 0.5)
    assert number(first.get_attribute("title").split("·")[2]) == close(scaled.max() / scaled.sum())
    page.get_by_label("Top-k").fill("3")
    page.get_by_text("3 tokens of").wait_for()
    assert page.locator(".choices .dropped").count() > 0
    likeliest = trace.next(1)[0][0]
    first.click()
    expect(page.locator(".tokens .token")).to_have_count(len(trace.tokens) + 1)
    assert page.locator("#text").input_value() == TEXT + likeliest
    page.get_by_role("button", name="Go back to").click()
    expect(page.locator(".tokens .token")).to_have_count(len(trace.tokens))


def test_backward_blames_tokens_states_and_heads_as_the_library_does(show, trace, explorer):
    page = show("backward", target=TARGET)
    assert number(page.locator(".sentence").first.inner_text().split(" nats")[0]) == close(trace.result)
    found = attribute(explorer.held.model(), TEXT, TARGET)
    worst = int(found.by_token.argmax())
    assert f"at position {worst};" in page.get_by_text("Blamed most").inner_text()
    chips = page.get_by_role("region", name="What each token counts for").locator(".token")
    shown = [number(chip.get_attribute("aria-label")) for chip in chips.all()]
    assert shown == close(found.by_token)
    stream = page.get_by_role("region", name="Gradient by state of the stream").locator("canvas").first
    gradient = trace.gradient("embedding")[-1].astype(np.float64)
    assert cell(stream, "PageUp", "PageUp", "End") == close(np.sqrt(np.mean(gradient**2)))
    heads = page.get_by_role("region", name="Gradient by head").locator("canvas").first
    gradient = trace.gradient("blocks.2.attention.heads").astype(np.float64)
    assert cell(heads, "End") == close(np.sqrt(np.mean(gradient[1] ** 2)))
    page.get_by_role("button", name="The text itself").click()
    page.get_by_text("The loss of the text is").wait_for()


def test_the_lens_ablation_and_patching_are_the_librarys(show, trace, explorer):
    other = "or to be, "
    page = show("inside", target=TARGET, other=other)
    stage = list(logit_lens(trace).values())[-1][-1].astype(np.float64)
    shown = [number(text) for text in page.locator(".picked .number").all_inner_texts()]
    probs = np.exp(stage - stage.max()) / np.exp(stage - stage.max()).sum()
    assert shown == close(np.sort(probs)[::-1][:5].tolist())
    effect = ablate(explorer.held.model(), TEXT, TARGET).effect
    without = page.get_by_role("region", name="What is missing").locator("canvas").first
    assert cell(without, "End") == close(effect[-1, -1])
    patched = patch(explorer.held.model(), TEXT, other, TARGET)
    carried = page.get_by_role("region", name="What carries").locator("canvas").first
    carried.focus()
    for key in ("PageUp", "Home", "ArrowRight"):
        carried.press(key)
    shown = re.findall(r"[−\d.e]+", carried.get_attribute("aria-label").rpartition(": ")[2])
    assert [number(text) for text in shown] == close([patched.recovered[0, 1], patched.results[0, 1]])


def test_a_head_that_is_switched_off_stays_off_in_every_view_until_it_is_switched_on_again(
    show, trace, explorer
):
    page = show("inside", target=TARGET)
    canvas = page.get_by_role("region", name="What is missing").locator("canvas").first
    cell(canvas, "End")
    canvas.press("Enter")
    changed = page.get_by_role("region", name="Switched off").get_by_text("The loss of")
    without = handgrad.trace(explorer.held.model(), TEXT, TARGET, edits={"blocks.2.attention.heads": zero(1)})
    results = re.findall(r"\d+\.\d+", changed.inner_text().partition(": ")[2])[:2]
    assert [float(text) for text in results] == close([trace.result, without.result])
    page.get_by_role("link", name="Attention").click()
    page.get_by_role("button", name="Switch on again").click()
    expect(page.get_by_role("region", name="Switched off")).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("region", name="Switched off")).to_have_count(1)


def test_an_experiment_that_takes_long_says_how_far_it_is_and_can_be_stopped(show, explorer, monkeypatch):
    monkeypatch.setattr(experiments, "SOON", 0.0)
    monkeypatch.setattr(experiments, "PAUSE", 0.02)
    monkeypatch.setattr(explorer, "patch", endless())
    page = show("inside", target=TARGET)
    carried = page.get_by_role("region", name="What carries")
    carried.get_by_label("Other text").fill("or to be, ")
    carried.get_by_role("button", name="Compute").click()
    expect(carried.locator("progress[value='0.5']")).to_have_count(1)
    carried.get_by_role("button", name="Stop").click()
    carried.get_by_text("Stopped.").wait_for()
    assert explorer.patch.left.wait(5.0)  # the server has ended it too


def endless():
    """An experiment that goes on until nobody listens."""

    def experiment(body, report):
        try:
            while True:
                report(0.5)
                time.sleep(0.01)
        finally:
            experiment.left.set()

    experiment.left = threading.Event()
    return experiment


def test_pictures_are_saved_with_their_numbers_and_a_view_as_a_page_of_its_own(show, trace, tmp_path):
    page = show("attention", target=TARGET)
    page.locator(".panel .saving summary").first.click()
    for kind in ("CSV", "SVG", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind).click()
        download.value.save_as(tmp_path / kind)
    rows = list(csv.reader((tmp_path / "CSV").read_text().splitlines()))
    probs = trace.value("blocks.0.attention.probs")[0]
    assert [[float(x) for x in row[1:]] for row in rows[1:]] == close(probs.tolist())
    assert "<rect" in (tmp_path / "SVG").read_text()
    assert (tmp_path / "PNG").read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this view").click()
    download.value.save_as(tmp_path / "view.html")
    saved = (tmp_path / "view.html").read_text()
    assert "data:image/png" in saved
    assert "looks most at" in saved
    assert not re.findall(r"(?:src|href)=\"(?!data:)", saved)


def test_what_the_server_refuses_is_said_on_the_page_and_the_text_stays(show):
    page = show("prediction")
    page.get_by_label("Should come next").fill("to")
    page.get_by_label("Should come next").press("Enter")
    page.locator("#status.problem").wait_for()
    assert "target is one token" in page.locator("#status").inner_text()
    assert page.locator("#text").input_value() == TEXT


def test_learning_shows_the_runs_losses_and_samples_and_each_new_step_of_it(show, folder, monkeypatch):
    monkeypatch.setattr(learning, "PAUSE", 0.05)
    page = show("learning")
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text()
    rows = [json.loads(line) for line in lines.splitlines()]
    last = [row for row in rows if "validation_loss" in row][-1]
    assert number(page.locator(".sentence").first.inner_text()) == close(last["validation_loss"])
    assert page.locator("pre.sample").inner_text().strip() == last["sample"].strip()
    step = next(row for row in rows if "learning_rate" in row)
    try:
        with metrics.open("a") as file:
            file.write(json.dumps({**step, "step": 9, "loss": 1.25}) + "\n")
        page.get_by_text("Live:").wait_for()
    finally:
        metrics.write_text(lines)
    chart = page.locator(".chart svg").first
    chart.press("End")
    assert "step 9: training 1.25" in chart.get_attribute("aria-label")


CHART = """async () => {
  const { lineChart } = await import("/static/charts.js");
  const chart = lineChart({
    name: "losses", x: "step", y: "nats", levels: [{ name: "far", y: 9 }, { name: "edge", y: 2 }],
    series: [{ name: "training", points: [[0, 2], [1, 1]], colour: () => "red" }],
  });
  document.querySelector("main").append(chart);
  while (!chart.querySelector("svg")) await new Promise(requestAnimationFrame);
  const top = (element) => element.getBoundingClientRect().top, above = top(chart.querySelector("svg"));
  return [...chart.querySelectorAll("text.above")].map((each) => [each.textContent, top(each) - above]);
}"""


def test_a_level_beyond_a_chart_is_left_out_and_the_name_of_one_at_its_edge_can_be_read(show):
    ((name, top),) = show("learning").evaluate(CHART)
    assert name == "edge 2"
    assert top >= 0


ROW_NAMES = """async () => {
  const { heatMap } = await import("/static/heat.js");
  const names = Array.from({ length: 100 }, (_, i) => `${(28 * i) % 400}`), numbers = new Float32Array(1e4);
  const map = heatMap({ numbers, rowNames: names, columnNames: names, square: true, cell: 5 });
  const write = CanvasRenderingContext2D.prototype.fillText, rows = new Set();
  CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
    const mine = map.contains(this.canvas) && this.textAlign === "right";
    if (mine) rows.add(this.getTransform().f / devicePixelRatio);
    write.call(this, text, ...at);
  };
  document.querySelector("main").append(map);
  while (!rows.size) await new Promise(requestAnimationFrame);
  CanvasRenderingContext2D.prototype.fillText = write;
  return [...rows];
}"""


def test_names_beside_a_map_do_not_overlap_where_tokens_are_numbers_either(show):
    places = show("learning").evaluate(ROW_NAMES)
    assert len(places) > 5
    assert np.diff(sorted(places)).min() > 10


def test_vendored_files_are_those_that_were_released():
    versions = json.loads((VENDOR / "VERSIONS.json").read_text())
    listed = {name: sha for package in versions.values() for name, sha in package["sha256"].items()}
    there = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()}
    assert there == {*listed, "VERSIONS.json", "update.py"}
    for name, sha in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == sha, name
