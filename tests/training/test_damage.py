"""No file of a run is believed: whatever stands there, the run works or one sentence says what is wrong."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

import handgrad
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.formats import tensors
from handgrad.formats.model_folder import BEST, CONFIG, LAST, TOKENIZER
from handgrad.training import metrics, run
from handgrad.training.material import TOKENS
from handgrad.training.metrics import METRICS

NESTED = "[" * 100_000


def info(folder):
    run.about(folder)


def generate(folder):
    handgrad.generate(handgrad.load(folder), "3", max_tokens=12)


def resume(folder):
    handgrad.resume(folder, report=lambda _: None)


def assert_refused(open_run, folder, words):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=words) as caught:
        open_run(folder)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert before == after  # nothing is lost


def test_the_run_works_as_long_as_nobody_damages_it(tiny_run):
    info(tiny_run)
    generate(tiny_run)
    assert handgrad.resume(tiny_run, report=lambda _: None)
    assert run.about(tiny_run).steps_done == 4


def test_the_best_weights_are_loaded_or_others_by_name(tiny_run):
    best, last, default = (handgrad.load(tiny_run, name).weights.embedding for name in (BEST, LAST, None))
    np.testing.assert_array_equal(default, best)
    assert np.any(default != last)
    with pytest.raises(UserError, match="There is no checkpoint"):
        handgrad.load(tiny_run, "worst.safetensors")


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (LAST, lambda b: b[:-100], "no whole checkpoint"),
        (CONFIG, lambda b: b[:40], "is no JSON"),
        (CONFIG, lambda b: b"{}", "has no model"),
        (CONFIG, lambda b: b.replace(b'"n_layers": 1', b'"n_layers": 3'), "belongs to another model"),
        (CONFIG, lambda b: b.replace(b'"steps"', b'"stops"'), "'recipe' has no steps"),
        (TOKENIZER, lambda b: b[:10], "no tokenizer that handgrad wrote"),
        (TOKENS, lambda b: b[:-10], "must have 2 bytes for each of"),
        (TOKENS, lambda b: b"", "it has 0"),
    ],
)
def test_a_damaged_run_is_not_gone_on_with(tiny_run, name, damage, words):
    path = tiny_run / name
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(resume, tiny_run, words)


def test_weights_alone_are_nothing_to_go_on_with(tiny_run):
    (tiny_run / BEST).replace(tiny_run / LAST)
    assert_refused(resume, tiny_run, "state to go on from has no best_loss")


def set_field(path, keys, value):
    """Write `value` into the JSON file; a callable makes it from what was there."""
    data = json.loads(path.read_text())
    *outer, last = keys.split(".")
    table = data
    for key in outer:
        table = table[key]
    table[last] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("model", None, "model must be a JSON object; got None"),
        ("model.n_layers", None, "n_layers counts something"),
        ("model.n_layers", "1", "n_layers counts something"),
        ("model.d_model", 10**20, "d_model must be below 2\\^63"),
        ("model.d_model", 10**1000, "d_model must be below 2\\^63"),
        ("model.colour", 3, "knows no 'colour'"),
        ("model.position", ["rope"], "There is no position \\['rope'\\]"),
        ("model.dropout", "0.1", "dropout must be a number"),
        ("model.norm_eps", float("nan"), "norm_eps must be"),
        ("model.d_head", 0.5, "d_head counts something"),
        ("model.rope_scaling", [], "rope_scaling is a table such as"),
        ("model.rope_scaling", {"kind": "linear", "factor": 10**400}, "factor must be finite"),
        ("model.rope_scaling", {"kind": {}, "factor": 2}, "no kind of rope_scaling"),
        ("recipe", [], "recipe must be a JSON object"),
        ("recipe.steps", 10**20, "steps must be below 2\\^63"),
        ("recipe.steps", 2.5, "steps must be a whole number"),
        ("recipe.learning_rate", float("inf"), r"learning_rate must be above zero, and at most 3.4e\+38"),
        ("recipe.learning_rate", 1e300, "learning_rate must be above zero"),
        ("recipe.schedule", {}, "There is no schedule {}"),
        ("seed", -1, "seed must be a whole number from 0"),
        ("seed", float("inf"), "seed must be a whole number from 0"),
        ("seed", 1 << 63, "seed must be a whole number from 0"),
        ("seed", "5", "seed must be a whole number from 0"),
        ("preset", 3, "preset must be text"),
        ("text", None, "text must be text"),
        ("engine", "gpu", "There is no engine 'gpu'"),
        ("engine", ["cpu"], "engine must be text"),
        ("precision", 16, "precision must be text"),
        ("precision", "float8", "There is no precision 'float8'"),
        ("n_tokens", "many", "n_tokens must be a whole number"),
        ("n_tokens", 0, "n_tokens must be a whole number from 1"),
        ("n_tokens", 10**20, "n_tokens must be a whole number"),
        ("validation_tokens", 0, "validation_tokens must be a whole number from 1"),
        ("validation_tokens", 10**9, "validation_tokens must be below n_tokens"),
        ("validation_bytes", "9", "validation_bytes must be a whole number from 1"),
        ("repeated", 1.5, "repeated must be a number from 0 to 1"),
        ("baselines", [1.0], "baselines must be a JSON object"),
        ("baselines.unigram", "2", "unigram must be a number"),
        ("baselines.unigram", float("nan"), "unigram must be a number"),
    ],
)
@pytest.mark.parametrize("open_run", [info, resume])
def test_a_configuration_is_checked_field_by_field(tiny_run, open_run, field, value, words):
    set_field(tiny_run / CONFIG, field, value)
    assert_refused(open_run, tiny_run, words)


@pytest.mark.parametrize(
    "field",
    ["model", "model.d_model", "recipe.batch_size", "seed", "baselines", "baselines.bigram", "text"],
)
def test_what_a_configuration_lacks_is_named(tiny_run, field):
    data = json.loads((tiny_run / CONFIG).read_text())
    outer, _, inner = field.rpartition(".")
    del (data[outer] if outer else data)[inner]
    (tiny_run / CONFIG).write_text(json.dumps(data))
    assert_refused(info, tiny_run, f"has no {inner}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (NESTED, "nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "is no JSON"),
        ("[]", "must be a JSON object; got \\[\\]"),
        ("", "is no JSON"),
        (b"\xff\xfe", "Cannot read"),
        (" " * (2 << 20), "must have at most 1,048,576 bytes"),
    ],
    ids=["nested", "huge", "list", "empty", "bytes", "long"],
)
@pytest.mark.parametrize("open_run", [info, generate, resume])
def test_a_configuration_that_is_none_is_said(tiny_run, open_run, content, words):
    (tiny_run / CONFIG).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_refused(open_run, tiny_run, words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("null", "must be a JSON object"),
        ("[1, 2]", "must be a JSON object"),
        ("text", "is no JSON"),
        ("", "is no JSON"),
        (NESTED, "nested too deeply"),
        (b"\xff\xfe\x00", "is no JSON"),
        ("x" * (2 << 20), "more than 1,048,576 bytes"),
        ("{}", "has no step"),
        ('{"step": 1}', "has no validation_loss"),
        ('{"step": "1", "loss": 2.0}', "step must be a whole number"),
        ('{"step": 1, "loss": null}', "loss must be a number|has no learning_rate"),
        (
            '{"step": 1, "validation_loss": "2", "tokens": 1, "seconds": 1, "sample": ""}',
            "validation_loss must be a number",
        ),
        (
            '{"step": 1, "validation_loss": NaN, "tokens": 1, "seconds": 1, "sample": ""}',
            "validation_loss must be a number",
        ),
        ('{"step": 1, "validation_loss": 2.0, "seconds": 1}', "has no bits_per_byte"),
        (
            '{"step": 1, "validation_loss": 2.0, "bits_per_byte": 3, "tokens": 1, "seconds": 1, "sample": 3}',
            "sample must be text",
        ),
        ('{"step": 1, "loss": 2.0, "learning_rate": 1, "gradient_norm": 1, "tokens": 0.5}', "tokens must be"),
        (
            '{"step": 1, "validation_loss": -Infinity, "seconds": 1, "sample": ""}',
            "validation_loss must be a number from -1 to",
        ),
        ('{"step": 1, "loss": -1e300, "learning_rate": 1}', "loss must be a number from -1 to"),
    ],
    ids=range(18),
)
@pytest.mark.parametrize("open_run", [info, resume])
def test_a_damaged_line_of_the_metrics_is_named(tiny_run, open_run, line, words):
    path = tiny_run / METRICS
    first, *others = path.read_bytes().splitlines(keepends=True)
    line = line if isinstance(line, bytes) else line.encode()
    path.write_bytes(b"".join([first, line + b"\n", *others]))
    assert_refused(open_run, tiny_run, rf"metrics\.jsonl, line 2.*({words}).*Correct the line")


def test_a_last_line_of_the_metrics_that_was_cut_short_is_left_out(tiny_run):
    path = tiny_run / METRICS
    rows = metrics.read(tiny_run)
    path.write_bytes(path.read_bytes()[:-9])
    assert metrics.read(tiny_run) == rows[:-1]
    resume(tiny_run)


def test_a_run_goes_on_without_its_metrics(tiny_run):
    (tiny_run / METRICS).unlink()
    set_best_loss(tiny_run, 0.25)  # lower than any that will be measured
    assert run.about(tiny_run).best_validation_loss == 0.25
    resume(tiny_run)
    assert run.about(tiny_run).best_validation_loss == 0.25
    assert [row.step for row in metrics.read(tiny_run)] == [4, 4, 4]


def set_best_loss(folder, loss):
    metadata = tensors.read_header(folder / LAST).metadata
    progress = json.loads(metadata["progress"]) | {"best_loss": loss}
    tensors.write(folder / LAST, read_arrays(folder / LAST), {"progress": json.dumps(progress)})


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (None, "no state to go on from"),
        ("null", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("{", "is no JSON"),
        (NESTED, "nested too deeply"),
        ('{"step": "3", "best_loss": 1.0, "tokens": 1, "seconds": 1.0}', "step must be a whole number"),
        ('{"step": -3, "best_loss": 1.0, "tokens": 1, "seconds": 1.0}', "step must be a whole number"),
        ('{"step": 1e99, "best_loss": 1.0, "tokens": 1, "seconds": 1.0}', "step must be a whole number"),
        ('{"step": 3, "best_loss": NaN, "tokens": 1, "seconds": 1.0}', "best_loss must be a number"),
        ('{"step": 3, "best_loss": null, "tokens": 1, "seconds": 1.0}', "best_loss must be a number"),
        (
            '{"step": 3, "best_loss": 1%s, "tokens": 1, "seconds": 1.0}' % ("0" * 400),
            "best_loss must be a number",
        ),
        ('{"step": 3, "best_loss": 1.0, "tokens": 1, "seconds": []}', "seconds must be a number"),
        ('{"step": 3, "best_loss": 1.0, "tokens": -1, "seconds": 1.0}', "tokens must be a whole number"),
        (
            '{"step": 3, "best_loss": -Infinity, "tokens": 1, "seconds": 1.0}',
            "best_loss must be a number from -1",
        ),
        (
            '{"step": 5, "best_loss": 1.0, "tokens": 1, "seconds": 1.0, "place": 5.0, "rate": 1.0}',
            "place must be a number from 0 to 4",
        ),
        (
            '{"step": 3, "best_loss": 1.0, "tokens": 1, "seconds": 1.0, "place": 3.0, "rate": 0.0}',
            "rate must be a number from 1e-09 to 4",
        ),
        (
            '{"step": 3, "best_loss": 1.0, "tokens": 1, "seconds": 1, "place": 3, "rate": 1, "skipped": 4}',
            "No more steps are skipped than done; got 4 of 3",
        ),
    ],
    ids=range(17),
)
@pytest.mark.parametrize("open_run", [info, resume])
def test_the_text_beside_the_weights_is_checked(tiny_run, open_run, progress, words):
    arrays = read_arrays(tiny_run / LAST)
    tensors.write(tiny_run / LAST, arrays, None if progress is None else {"progress": progress})
    assert_refused(open_run, tiny_run, words)


def read_arrays(path):
    header = tensors.read_header(path)
    arrays = {name: np.zeros(entry.shape, np.float32) for name, entry in header.entries.items()}
    tensors.read_into(arrays, path)
    return arrays


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("open_run", "name"), [(generate, BEST), (resume, LAST)])
def test_weights_that_are_not_finite_are_refused(tiny_run, open_run, name, value):
    arrays, metadata = read_arrays(tiny_run / name), tensors.read_header(tiny_run / name).metadata
    arrays["blocks.0.norm1.gamma"][3] = value
    tensors.write(tiny_run / name, arrays, metadata)
    assert_refused(open_run, tiny_run, "blocks.0.norm1.gamma in .* must be finite")


def test_moments_that_cannot_be_are_refused(tiny_run):
    arrays, metadata = read_arrays(tiny_run / LAST), tensors.read_header(tiny_run / LAST).metadata
    arrays["adam.square"][5] = -1.0
    tensors.write(tiny_run / LAST, arrays, metadata)
    assert_refused(resume, tiny_run, "mean of squares is not negative")


@pytest.mark.parametrize("open_run", [generate, resume])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("null", "tokenizer.json"),
        ('{"kind": "characters", "characters": 5}', "tokenizer.json"),
        (
            '{"kind": "characters", "characters": "ab"}',
            "must have as many tokens as the model; it has 2, the model 18",
        ),
        ('{"kind": "bytes"}', "must have as many tokens as the model; it has 256, the model 18"),
        ("x" * (2 << 20), "must have at most .* bytes"),
    ],
    ids=range(5),
)
def test_a_tokenizer_must_be_the_models(tiny_run, open_run, content, words):
    (tiny_run / TOKENIZER).write_text(content)
    assert_refused(open_run, tiny_run, words)


def test_token_ids_outside_the_vocabulary_are_not_trained_on(tiny_run):
    tokens = np.fromfile(tiny_run / TOKENS, "<u2")
    tokens[100] = 18
    tokens.tofile(tiny_run / TOKENS)
    assert_refused(resume, tiny_run, "must have token ids below 18; it has 18")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.d_model", 100_000),
        ("model.d_model", 10**9),
        ("model.d_ff", 10**9),
        ("model.d_head", 10**9),
        ("model.n_layers", 50_000),
        ("model.n_layers", 10**9),
        ("model.vocab_size", 10**9),
        ("model.context_length", 10**9),
    ],
)
@pytest.mark.parametrize("open_run", [generate, resume])
def test_a_size_that_cannot_be_is_refused_before_anything_of_it_is_made(tiny_run, open_run, field, value):
    set_field(tiny_run / CONFIG, field, value)
    assert_refused(open_run, tiny_run, "needs .* GB of memory, and this machine has|belongs to another model")


@pytest.mark.parametrize(
    "options",
    [
        {"d_model": 10**5}, {"d_model": 10**9}, {"n_layers": 10**9}, {"d_ff": 10**9}, {"batch_size": 10**9},
        {"context_length": 10**9}, {"context_length": 10**6, "position": "rope"},
        {"n_layers": 10**9, "d_model": 2, "n_heads": 1, "d_ff": 1, "bias": False},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_a_run_that_cannot_fit_is_not_begun(text_file, tmp_path, options, engine):
    with pytest.raises(UserError, match=r"needs .* GB of memory, and this machine has"):
        handgrad.train(text_file, out=tmp_path / "run", preset="nano", engine=engine, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_what_fits_depends_on_the_machine(tiny_run, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(fits, "available", lambda: 3000)
    assert_refused(generate, tiny_run, "needs 0.0 GB")
    with pytest.raises(UserError, match=r"needs \d.* GB of memory"):
        handgrad.train(text_file, out=tmp_path / "new")
    monkeypatch.setattr(fits, "available", lambda: None)
    generate(tiny_run)


FILES = [CONFIG, TOKENIZER, LAST, BEST, TOKENS, METRICS]


def make_pipe(path):
    os.mkfifo(path)


def make_device(path):
    path.symlink_to("/dev/zero")


def make_folder(path):
    path.mkdir()


def make_loop(path):
    path.symlink_to(path.name)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [make_pipe, make_device, make_folder, make_loop])
def test_only_regular_files_are_read(tiny_run, make, name):
    for open_run in (info, generate, resume):
        folder = shutil.copytree(tiny_run, tiny_run.with_name(open_run.__name__))
        (folder / name).unlink()
        make(folder / name)
        if reads(open_run, name):
            assert_refused(open_run, folder, "must be a regular file|Cannot look at|Cannot read")


def reads(open_run, name):
    return (
        name
        in {
            info: {CONFIG, LAST, METRICS},
            generate: {CONFIG, TOKENIZER, BEST},
            resume: {CONFIG, TOKENIZER, LAST, TOKENS, METRICS},
        }[open_run]
    )


@pytest.fixture
def forbidden(stopped_run):
    """A copy of the run whose files anybody may reach; within, we are not root."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        yield shutil.copytree(stopped_run, Path(outer) / "run")


@contextlib.contextmanager
def as_nobody():
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.parametrize(
    ("open_run", "name"),
    [(r, n) for r in (info, generate, resume) for n in [*FILES, "."] if n == "." or reads(r, n)],
)
def test_what_may_not_be_read_is_named(forbidden, open_run, name):
    (forbidden / name).chmod(0)
    with as_nobody(), pytest.raises(UserError, match=r"Cannot (read|look at) .*: Permission denied"):
        open_run(forbidden)
    forbidden.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_of_runs_that_may_not_be_searched_is_said(forbidden, monkeypatch):
    (forbidden / "book.txt").write_text("to be or not to be\n" * 50)
    (forbidden / "runs").mkdir(mode=0)
    monkeypatch.chdir(forbidden)
    with as_nobody(), pytest.raises(UserError, match=r"Cannot look at runs.quick-1: Permission denied"):
        handgrad.train("book.txt", engine="reference")
    (forbidden / "runs").chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_run_that_cannot_be_locked_is_not_trained(forbidden):
    forbidden.chmod(0o311)  # its files may be read, their names may not
    with as_nobody(), pytest.raises(UserError, match=r"Cannot read .*run: Permission denied"):
        resume(forbidden)
    forbidden.chmod(0o755)
