"""What is written is whole or absent, and what the disk refuses is explained."""

import errno
import os

import numpy as np
import pytest

from handgrad.errors import UserError
from handgrad.formats import atomic, tensors


def test_a_failure_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")

    def break_off(partial):
        partial.write_text("ne")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        atomic.write(path, break_off)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_what_a_kill_left_is_swept_out_by_the_next_write(tmp_path):
    path = tmp_path / "file.txt"
    left = tmp_path / f".file.txt{atomic.PARTIAL}"
    left.mkdir()
    (left / ".tmpQ0o0YO").write_text("half of a library's own temporary file")
    atomic.write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "may not write"), (errno.EIO, "Input/output")],
)
def test_what_the_disk_refuses_is_explained_and_nothing_is_lost(tmp_path, number, words):
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")

    def refuse(partial):
        partial.write_text("ne")
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=words):
        atomic.write(path, refuse)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_a_path_through_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        atomic.write_text(tmp_path / "file" / "inner.txt", "text")


def test_a_full_disk_under_a_tensor_file_is_explained_although_the_library_wraps_it(tmp_path, monkeypatch):
    def full(*_):
        raise tensors.SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(UserError, match="The disk is full"):
        tensors.write(tmp_path / "a.safetensors", {"x": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_tensor_files_may_be_read_by_whoever_may_read_other_files(tmp_path):
    tensors.write(tmp_path / "a.safetensors", {"x": np.zeros(3)})
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_arrays_and_text_come_back_as_they_were(tmp_path, rng):
    arrays = {"a.b": rng.normal(size=(3, 4)).astype(np.float32), "c": np.arange(5)}
    tensors.write(tmp_path / "a.safetensors", arrays, {"note": "ä"})
    again, metadata = tensors.read(tmp_path / "a.safetensors")
    assert metadata == {"note": "ä"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b[:4], lambda b: b"", lambda b: b"x" * 99]
)
def test_a_damaged_tensor_file_is_named(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    tensors.write(path, {"x": np.zeros(300)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.safetensors is no whole checkpoint"):
        tensors.read(path)


def test_another_models_tensors_are_refused_before_anything_is_changed_in_ours(tmp_path):
    ours = {"a": np.zeros(3), "b": np.zeros(2)}
    path = tmp_path / "a.safetensors"
    tensors.write(path, {"a": np.ones(3), "b": np.ones(4)})
    with pytest.raises(UserError, match=r"b is \(4,\) there and \(2,\) here"):
        tensors.read_into(ours, path)
    tensors.write(path, {"a": np.ones(3)})
    with pytest.raises(UserError, match="it has no b"):
        tensors.read_into(ours, path)
    assert not ours["a"].any()
    tensors.write(path, {"a": np.ones(3), "b": np.full(2, 5.0), "c": np.ones(1)}, {"note": "ä"})
    assert tensors.read_into(ours, path) == {"note": "ä"}
    np.testing.assert_array_equal(ours["b"], [5.0, 5.0])
