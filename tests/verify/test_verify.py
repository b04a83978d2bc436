"""A model that is right is accepted, a fault of each kind caught and named. All: benchmarks/faults.py."""

import dataclasses
import itertools
import json
import re

import faults
import numpy as np
import pytest
from injected import named, result
from injected.gradients import scaled
from typer.testing import CliRunner

import handgrad
from handgrad import tree
from handgrad.cli import app
from handgrad.engines import cpu, fits
from handgrad.errors import UserError
from handgrad.formats import gguf_save, hub
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.parameters import Blocks
from handgrad.tokenizer import ByteTokenizer
from handgrad.verify import Check, checks, files, gradients, memory, texts, verify
from handgrad.verify.agreement import writing_is_right
from handgrad.verify.chat import chat_agrees
from handgrad.verify.products import products_agree
from handgrad.verify.rounding import sensitivity
from handgrad.verify.subject import subject_of

ALL = {(fault.model, fault.name): fault for fault in faults.faults()}
IN_CI = {
    ("llama", "positions begin at 0 in every piece"): "formulas, writing in float64: one token",
    (
        "llama",
        "the cached values are one position off, layer 1",
    ): "formulas, writing in float64: one token",
    ("nano", "a cut keeps the end"): "formulas, writing in float64: cut back",
    ("gpt2", "no gradient past the attention, layer 1"): "gradients, float64: derived = measured",
    ("baby", "gradient of blocks.1. 1 % off"): "gradients, float64: derived = measured",
    ("gpt2", "a tied table's gradient as the head alone"): "gradients, float64: derived = measured",
    ("qwen2", "query heads share the wrong key-value heads"): "gradients, float64: derived = measured",
    ("llama", "scores divided by d_head, not its root"): "cpu, float32: logits = formulas",
    ("qwen3", "a norm without its epsilon"): "cpu, float32: logits = formulas",
    ("qwen2", "kernels: a stale token after a cut"): "cpu, writing in float32: cut back",
    ("gpt2", "kernels: one bit differs for a token alone"): "cpu, writing in float32: the same bits",
    ("qwen2", "export: heads' components in another order, layer 1"): "files: handgrad folder",
    ("qwen2", "GGUF: a bias is written as zeros"): "files: GGUF, F32: weights",
    ("blocks", "writing in blocks: the cache is one position short"): "cpu, writing in blocks: one token",
    ("blocks", "all scales 1 % too large, 4 bits"): "cpu, writing in blocks: on average as large",
    ("blocks", "a cache in int8: scales one position off"): "cpu, a cache in int8: one token",
    ("blocks", "rows of a batch in each other's caches"): "cpu, writing in float32: side by side",
    ("blocks", "threads do not wait for each other"): "cpu, writing in float32: a whole prompt",
}


CHATS = {
    "the first token stands twice": "what is read = what the template writes",
    "only the last message is read": "what is read = what the template writes",
    "a message ends itself": "control tokens named in a message = none",
}


@pytest.mark.parametrize("name", ["paper", "qwen2", "qwen3"])
def test_a_model_that_is_right_is_accepted(name):
    found = verify(faults.model(name))
    assert [check for check in found if not check.passed] == []
    assert {check.group.split(",")[0] for check in found} == {"formulas", "gradients", "cpu", "files"}


def test_a_quantized_model_is_verified_as_it_is_written_with_and_so_is_its_chat():
    found = verify(faults.model("blocks"))
    assert [check for check in found if not check.passed] == []
    writing = {check.group for check in found if "writing in" in check.group}
    kinds = ("float32", "bfloat16", "int8", "blocks")
    assert writing == {"formulas, writing in float64", *(f"cpu, writing in {kind}" for kind in kinds)}
    caches = {check.group for check in found if "cache in" in check.group}
    assert caches == {"cpu, a cache in bfloat16", "cpu, a cache in int8"}
    assert sum(check.group == "chat" for check in found) == 2


def failed(found):
    return [f"{check.group}: {check.name}" for check in found if not check.passed]


def test_how_weights_lie_in_memory_is_no_difference():
    right = faults.model("nano")
    subject = subject_of(
        Model(right.config, tree.map(np.asfortranarray, right.weights)), np.random.default_rng(0)
    )
    assert failed(files.files_agree(subject, lambda doing: None)) == []


def test_blocks_that_are_lost_are_missed():
    subject = subject_of(faults.model("blocks"), np.random.default_rng(0))
    with ALL["blocks", "export: one matrix's blocks are lost"].inject():
        found = files.files_agree(subject, lambda doing: None)
        assert failed(found) == ["files: handgrad folder: blocks"]


@pytest.mark.parametrize(("name", "by"), CHATS.items())
def test_a_conversation_is_read_as_its_template_writes_it(name, by):
    with ALL["blocks", f"chat: {name}"].inject():
        assert failed(chat_agrees(faults.model("blocks"), lambda doing: None)) == [f"chat: {by}"]


def test_what_cannot_be_read_again_fails(monkeypatch):
    def damaged(path):
        raise UserError("it is damaged")

    monkeypatch.setattr(files, "FORMATS", [files.Format("GGUF", gguf_save.save, damaged)])
    subject = subject_of(faults.model("llama"), np.random.default_rng(0))
    (check,) = files.files_agree(subject, lambda doing: None)
    assert not check.passed
    assert (check.name, check.facts) == ("GGUF: weights", "it is damaged")


def test_a_matrix_that_rounding_hides_in_the_whole_is_found_by_its_products():
    """One block's scale of a matrix is another by half: in the whole model rounding does as much."""
    right = faults.model("blocks")
    name = "blocks.1.feed_forward.up.weight"
    rows = right.blocks[name].data.copy()
    rows[5, :2] = (1.5 * rows[5, :2].view(np.float16)).view(np.uint8)
    wrong = {**right.blocks, name: Blocks("Q8_0", rows)}
    subject = subject_of(dataclasses.replace(right, blocks=wrong), np.random.default_rng(0))
    moves = sensitivity(subject, np.random.default_rng(0))
    found = writing_is_right(
        subject, moves, cpu, "cpu", "blocks", np.random.default_rng(0), lambda doing: None
    )
    assert [check.name for check in found if not check.passed] == ["products with each matrix = formulas"]


@pytest.mark.parametrize(("key", "by"), IN_CI.items(), ids=map(" ".join, IN_CI))
def test_a_fault_is_caught_where_it_is(key, by):
    check = faults.caught_by(ALL[key])
    assert check is not None
    assert f"{check.group}: {check.name}".startswith(by)


def test_there_are_hundreds_of_faults_and_each_is_another():
    assert len(ALL) == len(list(faults.faults())) > 300


def gradient_checks(monkeypatch, most_visits: int) -> list[Check]:
    monkeypatch.setattr(gradients, "MOST_VISITS", most_visits)
    with scaled("blocks.1.norm1.beta")():
        found = checks(faults.model("gpt2"))
        return list(itertools.islice((check for check in found if check.group == gradients.GROUP), 3))


@pytest.mark.parametrize("most_visits", [10**9, 0], ids=["each array", "each layer"])
def test_a_wrong_gradient_is_named(monkeypatch, most_visits):
    at_once, parts, nonzero = gradient_checks(monkeypatch, most_visits)
    assert not at_once.passed
    assert parts.facts == "wrong: blocks.1.norm1.beta"
    assert nonzero.passed


def test_a_weight_that_takes_no_part_is_named():
    right = faults.model("llama")
    dead = named(right.weights, {"blocks.1.feed_forward.down.weight": np.zeros_like})
    found = checks(Model(right.config, dead))
    check = next(check for check in found if check.name == "every weight has a gradient")
    assert not check.passed
    assert check.facts.startswith("none in blocks.1.norm2.gamma, blocks.1.feed_forward.up.weight")


def test_an_english_text_is_read_where_the_tokenizer_has_its_letters():
    config = ModelConfig(vocab_size=256, context_length=8, n_layers=1, n_heads=1, d_model=4)
    model = Model(config, init(config), ByteTokenizer())
    read = texts.texts_for(model, np.random.default_rng(0))
    assert read.source == "an English text"
    assert bytes(read.read[0].astype(np.uint8)) == b"The rive"


def test_memory_is_asked_for_before_it_is_taken(monkeypatch):
    model = faults.model("nano")
    needed = memory(model.config, cpu)
    monkeypatch.setattr(fits, "available", lambda: needed - 1)
    with pytest.raises(UserError, match=r"Verifying this model needs .* GB of memory"):
        verify(model)


def run(*arguments: object):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_the_command_takes_public_names_too(monkeypatch):
    def refused(name):
        raise UserError(f"asked for {name}")

    monkeypatch.setattr(hub, "fetch", refused)
    assert str(run("owner/name@v1").exception) == "asked for owner/name@v1"


def test_the_command_prints_a_table_and_its_verdict(tmp_path):
    folder = handgrad.save(faults.model("nano"), tmp_path / "nano")
    done = run(folder)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{folder}: 1,032 weights in 2 layers; takes up to ")
    assert "one token at a time = uncached" in done.stdout
    assert not [line for line in lines if line.strip() == "at most:"]  # no reason where nothing is compared
    assert lines[-1] == f"{sum(line.endswith('  holds') for line in lines)} comparisons: all hold"


def test_columns_that_hardly_count_raise_no_alarm():
    right = faults.model("blocks")

    def faded(array):
        faint = array.copy()
        if array.ndim == 2:
            faint[:, ::3] *= np.float32(1e-5)
        return faint

    subject = subject_of(Model(right.config, tree.map(faded, right.weights)), np.random.default_rng(0))
    found = list(products_agree(subject, cpu, "int8", "int8", np.random.default_rng(0), lambda doing: None))
    assert len(found) == 2
    assert failed(found) == []


def test_numbers_that_are_none_are_said_too(tmp_path):
    folder = handgrad.save(faults.model("nano"), tmp_path / "nano")
    with result(cpu.Training, "logits", lambda logits: np.nan * logits)():
        table, as_json = run(folder), run(folder, "--json")
    assert re.search("logits = formulas +nan .* FAILS", table.stdout)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in as_json.stdout.splitlines()]
    assert any(row["measured"] is None and not row["passed"] for row in rows)


def test_a_failure_is_said_in_the_table_in_json_and_by_the_exit_code(tmp_path):
    folder = handgrad.save(faults.model("nano"), tmp_path / "nano")
    with ALL["baby", "gradient of blocks.1. 1 % off"].inject():
        table, as_json = run(folder), run(folder, "--json")
    assert table.exit_code == as_json.exit_code == 1
    assert "FAILS" in table.stdout
    assert "wrong: blocks.1." in table.stdout
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    failed = [row["name"] for row in rows if not row["passed"]]
    assert failed[:2] == ["derived = measured, all weights at once", "derived = measured, array by array"]
    assert {"group", "name", "measured", "bound", "unit", "reason"} <= rows[0].keys()
