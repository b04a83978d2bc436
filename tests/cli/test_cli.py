"""The command line as a user meets it: what it prints, and the one sentence for what can be mended."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import handgrad
from handgrad import cli
from handgrad.engines import cpu_memory
from handgrad.formats.model_folder import Model
from handgrad.kernels import machine
from handgrad.model.cases import names
from handgrad.model.config import PRESETS
from handgrad.model.count import count
from handgrad.model.init import init
from handgrad.training import run

TEXT = "".join(f"{i} times {j} is {i * j}.\n" for i in range(1, 20) for j in range(1, 20))
SMALL = [
    "--preset", "nano", "--steps", "8", "--eval-every", "4", "--batch-size", "4", "--context-length", "16",
    "--n-layers", "1", "--n-heads", "2", "--d-model", "16", "--set", "eval_batches=2",
]  # fmt: skip


@pytest.fixture
def handgrad_(monkeypatch, capfd):
    """Run a command in this process; return exit code, output and error output."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["handgrad", *map(str, args)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "handgrad", "train", folder / "text.txt", "--out", folder / "run", *SMALL],
        check=True,
        capture_output=True,
    )
    return folder / "run"


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_the_version_is_the_packages(handgrad_):
    assert handgrad_("--version") == (0, f"handgrad {handgrad.__version__}\n", "")


@pytest.mark.parametrize("command", [c.name or c.callback.__name__ for c in cli.app.registered_commands])
def test_every_command_explains_itself_with_an_example(handgrad_, command):
    code, out, _ = handgrad_(command, "--help")
    assert code == 0
    assert f"Example: handgrad {command}" in out


def test_training_in_a_pipe_prints_plain_lines(handgrad_, text_file, tmp_path):
    code, out, err = handgrad_("train", text_file, "--out", tmp_path / "run", *SMALL)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert re.findall(r"^step (\d+) .*validation \d\.\d{3}", out, re.MULTILINE) == ["0", "4", "8"]
    assert "handgrad generate" in out


def test_training_as_json_is_one_object_a_line(handgrad_, text_file, tmp_path):
    code, out, _ = handgrad_("train", text_file, "--out", tmp_path / "run", "--json", *SMALL)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["event"] for row in rows] == ["start", "evaluation", "evaluation", "evaluation"]
    assert rows[-1]["step"] == 8


def test_plot_draws_runs_and_says_where(handgrad_, trained, tmp_path):
    assert handgrad_("plot", trained, "--by", "tokens", "--out", tmp_path / "a.svg") == (
        0, f"{tmp_path / 'a.svg'}\n", ""
    )  # fmt: skip
    assert (tmp_path / "a.svg").exists()


def test_generate_prints_the_prompt_and_what_follows(handgrad_, trained):
    code, out, err = handgrad_("generate", trained, "3 times", "--max-tokens", "20", "--seed", "1")
    assert (code, err) == (0, "")
    assert out.startswith("3 times")
    assert len(out) == len("3 times") + 20 + 1
    assert out == handgrad_("generate", trained, "3 times", "--max-tokens", "20", "--seed", "1")[1]


def test_generate_as_json_separates_prompt_and_completion(handgrad_, trained):
    _, out, _ = handgrad_("generate", trained, "3", "--max-tokens", "5", "--json")
    row = json.loads(out)
    assert row["prompt"] == "3"
    assert len(row["completion"]) == 5
    assert (row["finished"], row["tokens"]) == ("length", {"prompt": 1, "written": 5, "forgotten": 0})
    assert "log_probabilities" not in row


def test_generate_keeps_keys_and_values_as_it_is_told(handgrad_, trained):
    code, out, _ = handgrad_("generate", trained, "3", "--max-tokens", "5", "--cache", "int8")
    assert (code, out[0], len(out)) == (0, "3", 7)
    asked = "generate", trained, "3", "--engine", "reference", "--cache", "int8"
    code, out, err = handgrad_(*asked)
    assert (code, out) == (2, "")
    assert "in float32, in which it computes; got a cache in int8. Take the cpu engine." in " ".join(
        err.split()
    )


def test_generate_tells_what_tokens_cost_and_what_else_there_was(handgrad_, trained):
    options = ("--max-tokens", "3", "--temperature", "0", "--json", "--log-probabilities", "2")
    row = json.loads(handgrad_("generate", trained, "3", *options)[1])
    assert "".join(each["token"] for each in row["log_probabilities"]) == row["completion"]
    for each in row["log_probabilities"]:
        assert each["alternatives"][0] == {name: each[name] for name in ("token", "id", "log_probability")}
        assert each["alternatives"][1]["log_probability"] <= each["log_probability"] < 0


def test_generate_says_where_a_context_ends_a_text_or_a_prompt_is_longer(handgrad_, trained):
    code, out, err = handgrad_("generate", trained, "3 times 4 is 12.\n5", "--max-tokens", "2")
    assert (code, len(out)) == (0, 18 + 2 + 1)
    assert err == "The prompt has 18 tokens, and the model sees 16: it read the prompt's end.\n"
    _, out, err = handgrad_("generate", trained, "3 times", "--when-full", "stop")
    assert len(out) == 16 + 1 + 1  # what follows a full context is written still
    assert err == "The text ends here: the model's context of 16 tokens is full.\n"
    _, out, err = handgrad_("generate", trained, "3 times 4 is 12.\n5", "--when-full", "stop")
    assert (out, err) == ("3 times 4 is 12.\n5\n", err)
    assert "nothing was written" in err


def test_generate_takes_many_prompts_and_answers_in_their_order(handgrad_, trained, tmp_path):
    (tmp_path / "plain").write_text("3 times\n\n4 is\n3\n")
    rows = [json.dumps({"prompt": "3 times", "seed": 5, "max_tokens": 2}), '{"prompt": "4 is", "stop": "1"}']
    (tmp_path / "rows").write_text("\n".join(rows))
    options = ("--at-once", "2", "--max-tokens", "9")
    _, out, err = handgrad_("generate", trained, "--prompts", tmp_path / "plain", *options)
    plain = [json.loads(line) for line in out.splitlines()]
    assert [row["prompt"] for row in plain] == ["3 times", "4 is", "3"]
    alone = json.loads(handgrad_("generate", trained, "4 is", "--max-tokens", "9", "--json")[1])
    assert plain[1]["completion"] == alone["completion"]
    assert err == ""
    first, second = map(
        json.loads, handgrad_("generate", trained, "--prompts", tmp_path / "rows", *options)[1].splitlines()
    )
    assert (first["seed"], first["tokens"]["written"]) == (5, 2)
    assert second["completion"] == plain[1]["completion"].split("1")[0]


def test_progress_stands_beside_the_answers_to_many_prompts(handgrad_, trained, tmp_path, monkeypatch):
    (tmp_path / "plain").write_text("3 times\n4 is\n")
    monkeypatch.setenv("FORCE_COLOR", "1")  # standard error counts as a terminal
    _, out, err = handgrad_("generate", trained, "--prompts", tmp_path / "plain", "--max-tokens", "9")
    assert [json.loads(line)["prompt"] for line in out.splitlines()] == ["3 times", "4 is"]
    assert "2 of 2 answered" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n", "There is no prompt in"),
        ('{"prompt": "3"}\n{3', "line 2: this is no JSON"),
        ('{"text": "3"}', 'line 1: a line is an object with a "prompt"'),
        ('{"prompt": "3", "seeds": 1}', "line 1: There is no setting 'seeds'.* Did you mean seed?"),
        ('{"prompt": "3", "seed": -1}', "line 1: seed must be a whole number"),
        ("3\nx", "Prompt 2 of 2: .*never seen 'x'"),
    ],
)
def test_prompts_that_are_none_are_refused_by_their_line(handgrad_, trained, tmp_path, text, words):
    (tmp_path / "prompts").write_text(text)
    code, out, err = handgrad_("generate", trained, "--prompts", tmp_path / "prompts")
    assert (code, out) == (2, "")
    assert re.search(words, err)


def test_generate_searches_guesses_and_follows_a_pattern(handgrad_, trained):
    short = ("--max-tokens", "6")
    rows = json.loads(handgrad_("generate", trained, "3", "--beams", "2", *short, "--json")[1])
    assert [len(beam["completion"]) for beam in rows["beams"]] == [6, 6]
    how = ("--length-penalty", "0", "--early-stopping", "never")
    best = handgrad_("generate", trained, "3", "--beams", "2", *how, *short)[1]  # all of one length
    assert best == "3" + rows["beams"][0]["completion"] + "\n"
    plain, guessed, drafted = (
        handgrad_("generate", trained, "3", *short, *draft)[1]
        for draft in ((), ("--draft", "lookup"), ("--draft", trained))
    )
    assert plain == guessed == drafted
    pytest.importorskip("llguidance")
    assert re.fullmatch(
        "3 times [0-9]{2}\n", handgrad_("generate", trained, "3", "--regex", " times [0-9]{2}")[1]
    )
    _, _, err = handgrad_("generate", trained, "3", "--regex", "[0-9]{9}", "--max-tokens", "4")
    assert err == "The text is not whole: it has 4 tokens. Take a larger --max-tokens.\n"


def test_info_tells_how_far_a_run_is(handgrad_, trained):
    code, out, _ = handgrad_("info", trained)
    assert code == 0
    assert re.search(r"trained\s+8 of 8 steps", out)
    row = json.loads(handgrad_("info", trained, "--json")[1])
    assert row["steps_done"] == 8
    assert row["cost"]["parameters"] > 0


def test_info_counts_the_memory_of_the_runs_own_precision(handgrad_, trained, tmp_path, monkeypatch):
    folder = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    predict, asked = cpu_memory.predict, []

    def spy(model, batch_size, precision, n_workers):
        asked.append(precision)
        return predict(model, batch_size, precision, n_workers)

    monkeypatch.setattr(cpu_memory, "predict", spy)
    monkeypatch.setattr(machine, "AMX", "none")
    for precision in ("float32", "bfloat16"):
        (folder / "config.json").write_text(json.dumps(config | {"precision": precision}))
        code, out, _ = handgrad_("info", folder)
        assert code == 0
        assert ("memory to train" in out) == (precision == "float32")
    assert asked == ["float32"]


def test_a_saved_model_needs_no_run(handgrad_, trained, tmp_path):
    folder = handgrad.save(handgrad.load(trained), tmp_path / "model")
    code, out, _ = handgrad_("info", folder)
    assert code == 0
    assert "parameters" in out
    assert "recipe" not in out
    row = json.loads(handgrad_("info", folder, "--json")[1])
    assert row.keys() == {"model", "cost", "memory"}
    assert handgrad_("generate", folder, "3", "--max-tokens", "5")[0] == 0
    code, _, err = handgrad_("train", "--resume", "--out", folder)
    assert code == 2
    assert "has no recipe" in err
    (folder / "tokenizer.json").unlink()
    code, _, err = handgrad_("generate", folder, "3")
    assert code == 2
    assert "needs a tokenizer" in err


def test_info_lists_what_a_model_scales(handgrad_, tmp_path):
    scaling = {"kind": "linear", "factor": 4}
    config = PRESETS["llama"].replace(n_layers=1, context_length=8, d_head=16, rope_scaling=scaling)
    folder = handgrad.save(Model(config, init(config)), tmp_path / "model")
    out = " ".join(handgrad_("info", folder)[1].split())
    assert "d_head 16," in out
    assert "rope_scaling (kind linear, factor 4.0, " in out
    assert "qkv_bias" not in out  # nothing is said of what follows from others


def test_info_knows_presets(handgrad_):
    _, out, _ = handgrad_("info", "gpt2")
    assert "124,439,808" in out


def test_check_proves_everything_and_names_it(handgrad_):
    code, out, _ = handgrad_("check", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert {row["name"] for row in rows} == set(names())
    assert max(row["relative_error"] for row in rows) < 1e-9


def test_check_prints_a_table(handgrad_):
    code, out, _ = handgrad_("check", "layer_norm")
    assert code == 0
    assert re.search(r"layer_norm\s+x\s+\d\.\de-\d+\s+proved", out)
    assert "3 gradients of layer_norm: all relative errors below 1e-09" in out


def test_check_proves_the_model_of_a_run(handgrad_, trained):
    code, out, _ = handgrad_("check", trained)
    assert code == 0
    assert re.search(r"blocks.0.attention.query.weight\s+\S+\s+\d\.\de-\d+\s+proved", out)
    assert "a step moves every weight" in out
    code, out, _ = handgrad_("check", trained, "--json")
    assert code == 0
    assert all(json.loads(line)["passed"] for line in out.splitlines())


def test_the_table_of_a_models_weights_fits_a_terminal(handgrad_, tmp_path, monkeypatch):
    config = PRESETS["gpt2"].replace(
        vocab_size=300, context_length=100, n_layers=11, d_model=8, n_heads=2, d_ff=None
    )
    folder = handgrad.save(Model(config, init(config)), tmp_path / "model")
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = handgrad_("check", folder)
    *table, _, verdict = out.splitlines()
    assert verdict.startswith(f"{count(config).parameters:,} weights in ")
    assert max(map(len, table)) <= 80
    row = table.index(next(line for line in table if line.startswith("blocks.10.attention.key.bias  ")))
    assert table[row + 1] == "  8 without gradient: softmax does not see what all keys share"
    assert table[row + 2].startswith("blocks.10.attention.value.weight  ")


def test_check_exits_with_one_where_a_models_gradient_is_wrong(handgrad_, trained, monkeypatch):
    from handgrad.ops import layer_norm

    backward = layer_norm.backward
    monkeypatch.setattr(
        layer_norm, "backward", lambda dy, saved: (2 * backward(dy, saved)[0], *backward(dy, saved)[1:])
    )
    code, out, _ = handgrad_("check", trained)
    assert code == 1
    assert "WRONG" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gelu", "--seed", "-1"], "whole number from 0"),
        (["no/such/run"], "There is no run or model in no/such/run"),
    ],
)
def test_check_says_what_it_cannot_prove(handgrad_, arguments, sentence):
    code, _, err = handgrad_("check", *arguments)
    assert code == 2
    assert sentence in err


def test_check_says_where_a_gradient_is_wrong_and_exits_with_one(handgrad_, monkeypatch):
    from handgrad.ops import layer_norm

    backward = layer_norm.backward

    def broken(dy, saved):
        dx, dgamma, dbeta = backward(dy, saved)
        dgamma = dgamma.copy()
        dgamma[2] *= 1 + 1e-4
        return dx, dgamma, dbeta

    monkeypatch.setattr(layer_norm, "backward", broken)
    code, out, _ = handgrad_("check", "layer_norm")
    assert code == 1
    assert re.search(r"gamma\s+\S+\s+WRONG", out)
    code, out, _ = handgrad_("check", "layer_norm", "--every-element")
    assert code == 1
    assert re.search(r"gamma\s+1\.0e-04\s+WRONG\s+\[2\]: ", out)
    assert re.search(r" x\s+\S+\s+proved", out)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "nowhere.txt"], "There is no file or folder nowhere.txt"),
        (["train", "--preset", "nanoo"], "Did you mean nano?"),
        (["train", "--d-model", "130"], "Try d_model=132"),
        (["train", "--learning-rate", "-1"], "learning_rate must be above zero"),
        (["train", "--set", "activation=gelo"], "Did you mean gelu?"),
        (["train", "--set", "colour=red"], "There is no option 'colour'"),
        (["train", "--set", "activation"], "--set takes name=value"),
        (["train", "--resume"], "--resume --out"),
        (["train", "--resume", "--out", "nowhere"], "There is no run or model in nowhere"),
        (["train", "--resume", "--out", "x", "--steps", "3"], "no other option than --out"),
        (["train", "--resume", "--out", "x", "--seed", "3"], "no other option than --out"),
        (["train", "--resume", "--out", "x", "text.txt"], "no other option than --out"),
        (["train", "--set", "dropout=much"], "dropout must be a number; got 'much'"),
        (["train", "--set", "gated=5"], "gated is either true or false; got 5"),
        (["train", "--set", "learning_rate=[1]"], "learning_rate must be a number; got [1]"),
        (["train", "--set", "steps=1.5"], "steps must be a whole number from 1, below 2^63; got 1.5"),
        (["train", "--set", "steps=true"], "steps must be a whole number from 1, below 2^63; got True"),
        (["train", "--set", "norm=null"], "There is no norm None"),
        (["train", "--set", "schedule=3"], "There is no schedule 3"),
        (
            ["train", "--optimizer", "muo"],
            "There is no optimizer 'muo'; choose one of adamw, muon. Did you mean",
        ),
        (["train", "--set", "matrix_learning_rate=0"], "matrix_learning_rate must be above zero"),
        (["train", "--set", "decay_share=0"], "decay_share must be above 0, and at most 1; got 0"),
        (["generate", "nowhere", "a"], "There is no run or model in nowhere"),
        (["generate", "nowhere.gguf", "a"], "There is no file nowhere.gguf. Check the path."),
        (["generate", "nowhere", "--prompts", "no.txt"], "There is no file no.txt. Check the path."),
        (["info", "nowhere"], "There is no run or model in nowhere"),
        (["check", "layernorm"], "Did you mean layer_norm?"),
    ],
)
def test_what_can_be_mended_is_said_in_a_sentence(handgrad_, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = handgrad_(*args)
    assert (code, out) == (2, "")
    assert err.startswith("handgrad: ")
    assert words in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["3", "--temperature", "-1"], "temperature must be zero"),
        (["3", "--top-p", "2"], "top_p must be a share"),
        (["3", "--logit-bias", "a"], "A bias is TOKEN=NUMBER, such as 13=-5; got 'a'"),
        (["3", "--beams", "2", "--stop", "x"], "--beams looks for the likeliest text and draws nothing"),
        (["3", "--beams", "2", "--early-stopping", "yes"], "There is no early stopping 'yes'"),
        (["3", "--length-penalty", "2"], "--length-penalty and --early-stopping are for --beams"),
        (["3", "--beams", "2", "--draft", "lookup"], "--beams and --draft do not go together"),
        (["3", "--dry-base", "0.5"], "dry_base must be from 1 to 100; got 0.5"),
        (["3", "--schema", "{}", "--regex", "a"], "a schema or a regular expression, not both"),
        ([], "Give a prompt, or a file of them"),
        (["3", "--prompts", "x"], "Give a prompt, or a file of them"),
        (["3", "--max-tokens", "0"], "max_tokens must be a whole number from 1"),
        ([""], "cannot be empty"),
        (["x"], "never seen 'x'"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_said_in_a_sentence(handgrad_, trained, args, words):
    code, out, err = handgrad_("generate", trained, *args)
    assert (code, out) == (2, "")
    assert words in err


def test_an_unknown_option_is_refused_by_name(handgrad_):
    code, _, err = handgrad_("train", "--stepps", "3")
    assert code == 2
    assert "--stepps" in err


def test_standard_input_is_a_text(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "handgrad", "train", "-", "--out", tmp_path / "run", *SMALL],
        input=TEXT.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["text"] == "stdin"


def test_ctrl_c_saves_and_says_how_to_go_on(text_file, tmp_path):
    command = [sys.executable, "-m", "handgrad", "train", text_file, "--out", tmp_path / "run", *SMALL]
    command += ["--steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "step 4" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == f"Stopped and saved. Go on with: handgrad train --resume --out {tmp_path / 'run'}\n"
    assert handgrad.load(tmp_path / "run")


def test_a_reader_that_leaves_early_is_no_error(trained):
    process = subprocess.Popen(
        [sys.executable, "-m", "handgrad", "generate", trained, "3", "--max-tokens", "3000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.read(3)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)


def test_a_terminal_sees_a_bar_and_what_the_model_writes(text_file, tmp_path):
    pytest.importorskip("pty", reason="needs a terminal to pretend with")
    ours, theirs = os.openpty()
    command = [
        sys.executable,
        "-m",
        "handgrad",
        "train",
        str(text_file),
        "--out",
        str(tmp_path / "run"),
        *SMALL,
    ]
    # no os.fork, which JAX, should this process have imported it, warns against
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = []
    with contextlib.suppress(OSError):  # how Linux says that nobody holds the other end any more
        while data := os.read(ours, 4096):
            seen.append(data)
    os.close(ours)
    assert process.wait(timeout=60) == 0
    shown = b"".join(seen).decode()
    assert "tokens/s" in shown
    assert "8/8" in shown


@pytest.mark.parametrize("command", [["info"], ["train", "--resume", "--out"], ["generate"]])
@pytest.mark.parametrize(
    "content", ["{}", "[]", "{", '{"model": {}}', '{"model": {"d_model": 3}, "recipe": {}}']
)
def test_a_damaged_configuration_is_said_in_a_sentence(handgrad_, tmp_path, command, content):
    (tmp_path / "config.json").write_text(content)
    code, out, err = handgrad_(*command, tmp_path, *(["x"] if command == ["generate"] else []))
    assert (code, out) == (2, "")
    assert err.startswith("handgrad: ")
    assert err.count("\n") == 1


def test_a_folder_may_have_brackets_in_its_name(handgrad_, text_file, tmp_path):
    code, out, _ = handgrad_("train", text_file, "--out", tmp_path / "[bold]run[/]", *SMALL)
    assert code == 0
    assert f"handgrad generate {tmp_path / '[bold]run[/]'}" in out


def test_fine_tuning_says_the_loss_before_and_after(handgrad_, trained, tmp_path):
    code, out, _ = handgrad_(
        "train", trained.parent / "text.txt", "--from", trained, "--steps", 2, "--engine", "reference",
        "--out", tmp_path / "tuned",
    )  # fmt: skip
    assert code == 0
    assert f"begun from {trained}" in out
    about = run.about(tmp_path / "tuned")
    before, after = about.losses_before_and_after
    assert f"Whole validation text: {before:.3f} before, {after:.3f} after." in out
