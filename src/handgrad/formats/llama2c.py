"""Models of llama2.c (https://github.com/karpathy/llama2.c, MIT): a .bin file, and one with its tokenizer.

The .bin is its first version: seven whole numbers (int32: width, feed-forward width, layers, heads, key-value
heads, vocabulary, context), then all weights in float32, each kind for all layers, matrices with a row an
output. A negative vocabulary says that the output head is a matrix of its own, the last one. Between them are
tables of the rotary angles, which are computed here. Neighbouring components turn together, as handgrad's do.

The tokenizer is the length of the longest piece (int32), and for each piece its score (float32), its length
(int32) and its bytes.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from handgrad.data import files
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.formats import sentencepiece, tensors
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import blank
from handgrad.tokenizer.pretrained import PretrainedTokenizer

HEADER = struct.Struct("<7i")
NORM_EPS = 1e-5
UNKNOWN, BOS, EOS = 0, 1, 2
LONGEST_PIECE = 1 << 10

KINDS = (
    "embedding", "norm1.gamma", "attention.query.weight", "attention.key.weight", "attention.value.weight",
    "attention.output.weight", "norm2.gamma", "feed_forward.gate.weight", "feed_forward.down.weight",
    "feed_forward.up.weight", "norm.gamma", "angles", "head.weight",
)  # fmt: skip
"""The order in the file: what is in every block stands there for all blocks."""


def load(path: str | Path, tokenizer: str | Path | None = None) -> Model:
    """The model in a llama2.c file, with the tokenizer beside it or the named one.

    Beside stories260K.bin that is stories260K_tok512.bin, tok512.bin or tokenizer.bin, whichever is there.
    Raises `UserError` where a file is damaged, or the two do not fit together.
    """
    path = Path(path)
    config = _config(path)
    fits.require(count(config).weight_bytes, f"The model in {path}")
    weights = blank(config)
    with files.readable(path), path.open("rb") as file:
        file.seek(HEADER.size)
        _fill(file, tensors.by_name(weights), config, path)
    named = Path(tokenizer) if tokenizer is not None else _beside(path, config)
    if named is None:
        return Model(config, weights)
    return Model(config, weights, read_tokenizer(named, config.vocab_size), (BOS,), (BOS, EOS))


def read_tokenizer(path: str | Path, vocab_size: int) -> PretrainedTokenizer:
    """The tokenizer of `vocab_size` pieces in a llama2.c file; `UserError` where it is another."""
    path = Path(path)
    if not files.exists(path):
        raise UserError(f"There is no tokenizer {path}. Check the path.")
    n_bytes = files.length(path)
    if n_bytes > 4 + vocab_size * (8 + LONGEST_PIECE):
        raise _broken(path, f"{vocab_size} pieces do not take {n_bytes:,} bytes")
    with files.readable(path):
        data = path.read_bytes()
    texts, scores = zip(*_pieces(path, data, vocab_size), strict=True)
    special = frozenset((UNKNOWN, BOS, EOS))
    pieces = sentencepiece.Pieces(_written(texts), scores, special, unknown=UNKNOWN)
    return PretrainedTokenizer(sentencepiece.tokenizer(pieces, starts_with_blank=True))


def _config(path: Path) -> ModelConfig:
    """What the file's first numbers say; they fit its length."""
    if not files.exists(path):
        raise UserError(f"There is no file {path}. Check the path.")
    n_bytes = files.length(path)
    with files.readable(path), path.open("rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise _broken(path, f"it has {n_bytes} bytes")
    d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size, context_length = HEADER.unpack(header)
    try:
        config = ModelConfig(
            vocab_size=abs(vocab_size), context_length=context_length, n_layers=n_layers, n_heads=n_heads,
            n_kv_heads=n_kv_heads, d_model=d_model, d_ff=d_ff, tied=vocab_size > 0, position="rope",
            norm="rms_norm", norm_eps=NORM_EPS, activation="silu", gated=True, bias=False,
        )  # fmt: skip
    except UserError as error:
        raise _broken(path, str(error)) from error
    wanted = HEADER.size + 4 * (count(config).parameters + config.context_length * config.head_width)
    if n_bytes != wanted:
        raise _broken(path, f"its header describes {wanted:,} bytes, and it has {n_bytes:,}")
    return config


def _fill(file: BinaryIO, weights: dict[str, np.ndarray], config: ModelConfig, path: Path) -> None:
    for kind in KINDS:
        if kind == "angles":
            file.seek(4 * config.context_length * config.head_width, 1)
        names = [kind] if kind in weights else [f"blocks.{i}.{kind}" for i in range(config.n_layers)]
        for name in names:
            if name in weights:
                rows = weights[name] if name == "embedding" else weights[name].T
                numbers = np.fromfile(file, "<f4", rows.size)
                if len(numbers) < rows.size:
                    raise _broken(path, "it was cut short meanwhile")
                tensors.require_finite(numbers, f"{name} in {path}")
                rows[...] = numbers.reshape(rows.shape)


def _beside(path: Path, config: ModelConfig) -> Path | None:
    name = f"tok{config.vocab_size}.bin"
    candidates = (f"{path.stem}_{name}", name, "tokenizer.bin")
    return next((path.with_name(c) for c in candidates if files.exists(path.with_name(c))), None)


def _pieces(path: Path, data: bytes, vocab_size: int) -> Iterator[tuple[str, float]]:
    """The text and the score of each piece."""
    place = 4
    for _ in range(vocab_size):
        if place + 8 > len(data):
            raise _broken(path, f"it has fewer than {vocab_size} pieces")
        score, n_bytes = struct.unpack_from("<fi", data, place)
        text, place = data[place + 8 : place + 8 + n_bytes], place + 8 + n_bytes
        if not 0 <= n_bytes <= LONGEST_PIECE or place > len(data) or not np.isfinite(score):
            raise _broken(path, f"a piece of it has {n_bytes} bytes and the score {score}")
        try:
            yield str(text, "utf-8"), score
        except UnicodeDecodeError as error:
            raise _broken(path, f"a piece of it is no UTF-8 ({error.reason})") from error
    if place != len(data):
        raise _broken(path, f"it has more than {vocab_size} pieces")


def _written(texts: Sequence[str]) -> list[str]:
    """The pieces as SentencePiece writes them; llama2.c has blanks, and line breaks around <s> and </s>."""
    return [text.strip("\n") if i in (BOS, EOS) else text.replace(" ", sentencepiece.BLANK)
            for i, text in enumerate(texts)]  # fmt: skip


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no whole file of llama2.c: {why}. {files.COPY}")
