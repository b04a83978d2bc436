"""The checkpoints that a run keeps: as many as asked for, usable by name, and the same after any crash."""

import errno
import json
import os
import signal

import numpy as np
import pytest

import handgrad
from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.formats.model_folder import BEST, LAST
from handgrad.training import checkpoint, kept, run
from handgrad.training.events import StepDone

BRIEF = {"n_layers": 1, "engine": "reference"}
ONE = {"steps": 1, "engine": "reference"}


@pytest.fixture
def train(text_file, tmp_path, small):
    def train(name="run", **options):
        return handgrad.train(text_file, out=tmp_path / name, **{**small, **BRIEF, **options})

    return train


def checkpoints(folder):
    return sorted((folder / "checkpoints").iterdir(), key=lambda path: int(path.stem))


def bits(folder):
    """The arrays of every checkpoint, by its file: all but the header, which says after how many seconds."""
    found = [folder / LAST, folder / BEST, *checkpoints(folder)]
    whole = {str(path.relative_to(folder)): path.read_bytes() for path in found}
    return {name: data[8 + int.from_bytes(data[:8], "little") :] for name, data in whole.items()}


@pytest.mark.parametrize(("keep", "steps"), [(2, [8, 12]), (9, [0, 4, 8, 12]), ("all", [0, 4, 8, 12])])
def test_a_run_keeps_as_many_checkpoints_as_asked_for(train, keep, steps):
    folder = train(keep=keep)
    assert kept.steps(folder) == steps
    assert [checkpoint.read_progress(path, 12).step for path in checkpoints(folder)] == steps
    assert (folder / LAST).samefile(checkpoints(folder)[-1])  # and takes no room of its own


def test_a_run_keeps_its_last_checkpoint_alone_unless_asked(train):
    folder = train()
    assert not (folder / "checkpoints").exists()
    assert run.about(folder).config.keep == 1


def test_a_checkpoint_is_a_model_wherever_one_is_named(train, text_file, tmp_path):
    folder = train(keep="all")
    first, *_, last = (handgrad.load(str(path)).weights for path in checkpoints(folder))
    assert not np.array_equal(first.embedding, last.embedding)
    for one, other in zip(tree.leaves(last), tree.leaves(handgrad.load(folder, LAST).weights), strict=True):
        np.testing.assert_array_equal(one, other)
    other = handgrad.train(text_file, begin_from=checkpoints(folder)[0], out=tmp_path / "other", **ONE)
    assert run.about(other).config.begun_from.endswith("checkpoints/0.safetensors")


@pytest.mark.parametrize("keep", [2, "all"])
def test_a_crash_anywhere_leaves_the_checkpoints_of_a_run_without_one(train, monkeypatch, keep):
    whole = train("whole", keep=keep)

    def crash(event):
        if isinstance(event, StepDone) and event.step == 7:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        train("crashed", keep=keep, report=crash)
    crashed = whole.with_name("crashed")
    assert handgrad.resume(crashed)
    link, calls = atomic.link, []

    def killed(path, source):
        calls.append(path)
        if len(calls) == 3:  # the newest is there, and not yet the last
            raise RuntimeError("power cut")
        link(path, source)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "link", killed)
        with pytest.raises(RuntimeError):
            train("killed", keep=keep)
    between = whole.with_name("killed")
    assert kept.steps(between)[-1] == 8
    assert run.about(between).steps_done == 4
    assert handgrad.resume(between)
    assert bits(whole) == bits(crashed) == bits(between)


def test_what_a_kill_left_too_many_of_is_pruned_by_the_next_start(train):
    folder = train(keep=2)
    atomic.link(folder / "checkpoints" / "4.safetensors", folder / LAST)
    assert handgrad.resume(folder)
    assert kept.steps(folder) == [8, 12]


def test_a_stop_between_two_evaluations_is_saved_and_not_kept(train, tmp_path):
    def stop(event):
        if isinstance(event, StepDone) and event.step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(keep="all", report=stop)
    assert run.about(tmp_path / "run").steps_done == 6
    assert kept.steps(tmp_path / "run") == [0, 4]


def test_a_disk_that_fills_up_while_a_checkpoint_is_kept_leaves_the_others_whole(
    train, tmp_path, monkeypatch
):
    whole, flush = train("whole", keep=3), atomic._flush

    def full(path):
        if path.name == "8.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    with monkeypatch.context() as disk:
        disk.setattr(atomic, "_flush", full)
        with pytest.raises(UserError, match=r"checkpoints/8\.safetensors\. The disk is full"):
            train(keep=3)
    folder = tmp_path / "run"
    assert run.about(folder).steps_done == 4
    assert kept.steps(folder) == [0, 4]
    assert not list(folder.rglob(".*"))
    for path in [folder / BEST, folder / LAST, *checkpoints(folder)]:
        assert handgrad.load(path)
    assert handgrad.resume(folder)
    assert bits(whole) == bits(folder)


def test_a_disk_whose_files_have_one_name_each_keeps_copies(train, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = train(keep=2)
    newest = checkpoints(folder)[-1]
    assert not (folder / LAST).samefile(newest)
    assert (folder / LAST).read_bytes() == newest.read_bytes()


@pytest.mark.parametrize("keep", [0, -1, "none", 1.5, True, None])
def test_another_number_of_checkpoints_is_refused_before_anything_is_written(train, tmp_path, keep):
    with pytest.raises(UserError, match=r'a number of checkpoints from 1, or "all"; got '):
        train(keep=keep)
    assert not (tmp_path / "run").exists()


def test_what_is_no_checkpoint_of_ours_is_refused_in_a_sentence(train, tmp_path):
    folder = train(keep=2)
    with pytest.raises(
        UserError, match=r"no file .*7\.safetensors\. This run's checkpoints are of step 8, 12"
    ):
        handgrad.load(folder / "checkpoints" / "7.safetensors")
    elsewhere = tmp_path / "weights.safetensors"
    elsewhere.write_bytes((folder / LAST).read_bytes())
    with pytest.raises(UserError, match=r"belongs to no run or model of handgrad's\. Name the folder"):
        handgrad.load(elsewhere)
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"keep": "some"})
    )
    with pytest.raises(UserError, match=r"config\.json: A run keeps a number of checkpoints"):
        run.about(folder)
