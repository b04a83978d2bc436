"""Tensor files are what the safetensors library reads and writes, and none is believed."""

import errno
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from handgrad.errors import UserError
from handgrad.formats import atomic, tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def write_raw(path, header, data=b""):
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_the_safetensors_library_reads_what_we_write(path, rng):
    arrays = {"a.b": rng.normal(size=(3, 4)).astype(np.float32), "ä": np.arange(5, dtype=np.float32)}
    arrays |= {"transposed": arrays["a.b"].T, "empty": np.zeros((0, 3), np.float32)}
    tensors.write(path, arrays, {"note": "ä"})
    again = load_file(path)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
    assert tensors.read_header(path).metadata == {"note": "ä"}


def test_we_read_what_the_safetensors_library_writes(path, rng):
    arrays = {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": np.ones(2, np.float32)}
    save_file(arrays, path, {"note": "ä"})
    ours = {name: np.zeros_like(array) for name, array in arrays.items()}
    tensors.read_into(ours, path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(ours[name], array)


@pytest.mark.parametrize("name", ["F64", "F16", "BF16"])
def test_other_floats_become_float32(path, rng, name, monkeypatch):
    monkeypatch.setattr(tensors, "BLOCK", 7)
    array = rng.integers(-9, 10, size=(5, 4)).astype(np.float32) / 8  # every type has these numbers exactly
    if name == "BF16":
        stored = (array.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = array.astype(tensors.TYPES[name])
    write_raw(path, {"a": entry(name, array.shape, (0, stored.nbytes))}, stored.tobytes())
    ours = {"a": np.zeros(array.shape, np.float32)}
    tensors.read_into(ours, path)
    np.testing.assert_array_equal(ours["a"], array)


def test_a_full_disk_is_explained_and_nothing_is_left(path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(UserError, match="The disk is full"):
        tensors.write(path, {"x": np.zeros(3)})
    assert list(path.parent.iterdir()) == []


def test_tensor_files_may_be_read_by_whoever_may_read_other_files(path):
    tensors.write(path, {"x": np.zeros(3)})
    (path.parent / "plain").write_text("")
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[: len(b) // 2], "is no whole checkpoint: it has"),
        (lambda b: b + b"more", "is no whole checkpoint: it has"),
        (lambda b: b[:4], "is no whole checkpoint: its header"),
        (lambda b: b"", "is no whole checkpoint: its header"),
        (lambda b: b"x" * 99, "is no whole checkpoint: its header"),
    ],
)
def test_a_file_that_was_cut_short_is_named(path, damage, words):
    tensors.write(path, {"x": np.zeros(300)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"a\.safetensors {words}"):
        tensors.read_header(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[" * 9000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        ([], "must be a JSON object"),
        ({"a": None}, "'a' must be a JSON object|a must be a JSON object"),
        ({"a": {}}, "has no dtype"),
        ({"a": entry(dtype=3)}, "dtype must be text"),
        ({"a": entry("F8_E4M3")}, "Weights are F64, F32, F16, BF16; got 'F8_E4M3'"),
        ({"a": entry("I64")}, "Weights are F64, F32, F16, BF16; got 'I64'"),
        ({"a": entry() | {"shape": 2}}, "shape must list 0 to 8 whole numbers; got 2"),
        ({"a": entry(shape=(2.0,))}, "shape must list"),
        ({"a": entry(shape=(True, 2))}, "shape must list"),
        ({"a": entry(shape=(-1, -2))}, "shape must list"),
        ({"a": entry(shape=(1 << 63,))}, "shape must list"),
        ({"a": entry(shape=[1] * 9)}, "shape must list"),
        ({"a": entry(offsets=(0, 8, 8))}, "data_offsets must list 2"),
        ({"a": entry(shape=(10**9, 10**9))}, "take 4000000000000000000 bytes"),
        ({"a": entry(), "b": entry()}, "do not follow one another"),
        ({"a": entry(offsets=(8, 16))}, "do not follow one another"),
        ({"__metadata__": None}, "must be a JSON object"),
        ({"__metadata__": [1]}, "must be a JSON object"),
        ({"__metadata__": "text"}, "must be a JSON object"),
        ({"__metadata__": {"note": 3}, "a": entry()}, "note must be text; got 3"),
    ],
)
def test_a_header_is_not_believed(path, header, words):
    write_raw(path, header, bytes(8))
    with pytest.raises(UserError, match=words) as caught:
        tensors.read_header(path)
    assert "a.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_header_of_gigabytes_is_not_read(path):
    with path.open("wb") as file:
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate((1 << 40) + 8)  # takes no room
    with pytest.raises(UserError, match="its header would have 1,099,511,627,776 bytes"):
        tensors.read_header(path)


def test_another_models_tensors_are_refused_before_anything_is_changed_in_ours(path):
    ours = {"a": np.zeros(3), "b": np.zeros(2)}
    tensors.write(path, {"a": np.ones(3), "b": np.ones(4)})
    with pytest.raises(UserError, match=r"b is \(4,\) there and \(2,\) here"):
        tensors.read_into(ours, path)
    tensors.write(path, {"a": np.ones(3)})
    with pytest.raises(UserError, match="it has no b"):
        tensors.read_into(ours, path)
    tensors.write(path, {"a": np.ones(3), "b": np.full(2, 5.0), "c": np.ones(1)})
    with pytest.raises(UserError, match="it has 'c', which this one has not"):
        tensors.read_into(ours, path)
    assert not ours["a"].any()
    tensors.read_into(ours, path, also=("c",))
    np.testing.assert_array_equal(ours["b"], [5.0, 5.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(path, value):
    tensors.write(path, {"a": np.ones(3), "b": np.array([1.0, value])})
    with pytest.raises(UserError, match=r"b in .*a\.safetensors must be finite"):
        tensors.read_into({"a": np.zeros(3), "b": np.zeros(2)}, path)


def test_a_number_too_large_for_float32_is_refused(path):
    save_file({"a": np.array([1e300])}, path)
    with pytest.raises(UserError, match="finite"):
        tensors.read_into({"a": np.zeros(1, np.float32)}, path)


def test_more_arrays_than_fit_are_not_written(path, monkeypatch):
    monkeypatch.setattr(tensors, "LONGEST_HEADER", 100)
    with pytest.raises(UserError, match="lists 2 arrays, more than fit"):
        tensors.write(path, {"a": np.ones(3), "b": np.ones(3)})
