"""A GGUF file's header is checked before anything of the size it names is made."""

import struct

import numpy as np
import pytest

from handgrad.errors import UserError
from handgrad.formats import gguf_header

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def place(name, axes, code, offset):
    return text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, code, offset)


def whole(pairs=(), places=(), data=b"", magic=b"GGUF", version=3, counts=None):
    """A GGUF file of any parts."""
    counts = counts or (len(places), len(pairs))
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join([*pairs, *places])
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.gguf"


def test_values_of_every_type_are_read(path):
    numbers = struct.pack("<IQ3i", 5, 3, -1, 0, 7)
    words = struct.pack("<IQ", STRING, 2) + text("ä") + text("")
    pairs = [
        pair("whole", U32, struct.pack("<I", 7)),
        pair("small", F32, struct.pack("<f", 1e-5)),
        pair("yes", BOOL, b"\1"),
        pair("text", STRING, text("hé")),
        pair("numbers", ARRAY, numbers),
        pair("words", ARRAY, words),
    ]
    path.write_bytes(whole(pairs, [place("w", (2, 3), 0, 0), place("v", (4,), 1, 32)], bytes(40)))
    header = gguf_header.read(path)
    fields = dict(header.metadata.fields)
    np.testing.assert_array_equal(fields.pop("numbers"), [-1, 0, 7])
    assert fields == {"whole": 7, "small": 1e-5, "yes": True, "text": "hé", "words": ["ä", ""]}
    assert header.tensors["w"][:2] == ("F32", (3, 2))
    assert header.tensors["v"].start == header.tensors["w"].start + 32


HUGE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "does not begin with these letters"),
        (b"GGU", "does not begin with these letters"),
        (whole(magic=b"GGML"), "does not begin with these letters"),
        (whole(version=1), "of version 1; handgrad reads the versions 2 and 3"),
        (whole(version=3 << 24), "in big-endian order"),
        (whole()[:12], "its header ends too early"),
        (whole(counts=(HUGE, 0)), "18,446,744,073,709,551,615 tensors"),
        (whole(counts=(0, HUGE)), "18,446,744,073,709,551,615 keys"),
        (whole(counts=(0, 1)), "is no whole GGUF file"),
        (whole([struct.pack("<Q", HUGE)], counts=(0, 1)), "a text in it would have"),
        (whole([pair("a", STRING, struct.pack("<Q", HUGE))]), "a text in it would have"),
        (whole([pair("a", STRING, text(b"\xff"))]), "no UTF-8"),
        (whole([pair("a", 13, b"")]), "unknown type 13"),
        (
            whole([pair("a", ARRAY, struct.pack("<IQ", STRING, 1 << 40))]),
            "would have 1,099,511,627,776 texts",
        ),
        (whole([pair("a", ARRAY, struct.pack("<IQ", 12, HUGE))]), "its header ends too early"),
        (whole([pair("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "unknown type 9"),
        (whole([pair("a", BOOL, b"\1"), pair("a", BOOL, b"\1")]), "it has 'a' twice"),
        (whole([pair("general.alignment", U32, struct.pack("<I", 0))]), "general.alignment must be"),
        (whole([pair("general.alignment", U32, struct.pack("<I", 48))]), "a power of two; got 48"),
        (whole([pair("general.alignment", U32, struct.pack("<I", 1 << 31))]), "a power of two"),
        (whole([], [place("a", (), 0, 0)]), "'a' would have 0 axes"),
        (whole([], [place("a", (1,) * 5, 0, 0)]), "'a' would have 5 axes"),
        (whole([], [place("a", (0,), 0, 0)]), "'a', which is F32, would have the shape"),
        (whole([], [place("a", (HUGE, HUGE, HUGE, HUGE), 0, 0)]), "would have the shape"),
        (whole([], [place("a", (1 << 39, 1 << 39), 0, 0)]), "would end at byte"),
        (whole([], [place("a", (48, 2), 8, 0)]), "'a', which is Q8_0, would have the shape"),
        (whole([], [place("a", (64,), 8, 0)]), "a vector in blocks"),
        (whole([], [place("a", (2,), 10, 0)]), "holds 'a' as Q2_K; handgrad reads F32, F16"),
        (whole([], [place("a", (2,), 99, 0)]), "holds 'a' as the type 99"),
        (whole([], [place("a", (2,), 0, 4)], bytes(99)), "does not begin at a multiple of 32"),
        (whole([], [place("a", (2,), 0, HUGE - 31)], bytes(99)), "would end at byte"),
        (whole([], [place("a", (99,), 0, 0), place("b", (1,), 0, 32)], bytes(999)), "'b' overlaps another"),
        (whole([], [place("a", (1,), 0, 0), place("a", (1,), 0, 32)], bytes(99)), "the tensor 'a' twice"),
        (whole([], [place("a", (9,), 0, 0)], bytes(35)), "would end at byte"),
    ],
)
def test_nothing_in_a_header_is_believed(path, data, words):
    path.write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        gguf_header.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_lists_of_more_texts_than_any_vocabulary_has_are_not_made(path, monkeypatch):
    monkeypatch.setattr(gguf_header, "MOST_ELEMENTS", 5)
    words = struct.pack("<IQ", STRING, 3) + text("") * 3
    path.write_bytes(whole([pair("a", ARRAY, words), pair("b", ARRAY, words)]))
    with pytest.raises(UserError, match="would have 3 texts"):
        gguf_header.read(path)


def test_a_missing_file_and_a_folder_are_named(path):
    with pytest.raises(UserError, match="There is no file"):
        gguf_header.read(path)
    path.mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        gguf_header.read(path)
