"""The text one trains on: files, folders, standard input, or what every Python carries.

Files are read in pieces that end with a line, so a corpus may be larger than memory. Errors name the place
where a file stops being UTF-8 text.
"""

import codecs
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handgrad.data import files
from handgrad.errors import UserError

PIECE_BYTES = 1 << 20
"""Read at a time: what encodes a piece takes some hundred bytes of memory for each of its tokens."""
BLOCK = 1 << 16
"""Characters of a block of a sample."""
CHECK = "Check the path and who may read it."
SUFFIXES = (".txt", ".md", ".rst", ".text")
"""What is read from a folder."""


@dataclass(frozen=True)
class Corpus:
    """Texts, one after the other: files, or a text in memory."""

    name: str
    files: tuple[Path, ...] = ()
    text: str = ""

    def pieces(self) -> Iterator[str]:
        """The text in pieces, each checked; a file that ends within a line has the line ended."""
        if self.text:
            yield self.text
        for path in self.files:
            yield from _read(path)

    def sample(self, most: int) -> Iterator[str]:
        """About `most` characters in blocks from everywhere alike; a text that has no more, whole."""
        total = sum(map(len, self.pieces()))
        every = -(-total // most)
        before = 0
        for piece in self.pieces():
            if every == 1:
                yield piece
                continue
            first = -before % (every * BLOCK)
            yield from (piece[i : i + BLOCK] for i in range(first, len(piece), every * BLOCK))
            before += len(piece)


def embedded() -> Corpus:
    """Python's own language reference, about 465 kB of English that every Python installation has."""
    from pydoc_data.topics import topics

    return Corpus(
        "python-reference", text="\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"
    )


def open_corpus(sources: Sequence[str | Path] = ()) -> Corpus:
    """The corpus of `sources`, in this order; "-" is standard input; none, the embedded corpus.

    Raises `UserError` where one is missing, empty, or no text.
    """
    if not sources:
        return embedded()
    if any(str(source) == "-" for source in sources):
        if len(sources) > 1:
            raise UserError(
                'Standard input ("-") is read alone; got other texts beside it. Leave one of them out.'
            )
        return _not_empty(Corpus("stdin", text="".join(_decode(_standard_input(), "Standard input"))))
    files = tuple(file for source in sources for file in _files(Path(source)))
    name = Path(sources[0]).stem if len(sources) == 1 else f"{len(files)}-texts"
    return _not_empty(Corpus(name, files=files))


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise UserError('Standard input ("-") is closed. Name a file, or pipe a text into it.')
    with files.readable("standard input", "Name a file, or pipe a text into it."):
        yield from iter(lambda: sys.stdin.buffer.read(PIECE_BYTES), b"")


def _not_empty(corpus: Corpus) -> Corpus:
    if not any(piece.strip() for piece in corpus.pieces()):
        where = "The text" if not corpus.files else ", ".join(map(str, corpus.files[:3]))
        raise UserError(
            f"A model learns from text; {where} holds none. Give a file with some, or none at all."
        )
    return corpus


def _files(source: Path) -> list[Path]:
    if not files.exists(source):
        raise UserError(
            f"There is no file or folder {source}. Check the path; the folder here is {Path.cwd()}."
        )
    if not source.is_dir():
        if not source.is_file():
            raise UserError(
                f"{source} must be a regular file; it is a pipe, a socket or a device. Pipe the text in: "
                f"zcat book.gz | handgrad train -."
            )
        return [source]
    with files.readable(source, CHECK):
        found = sorted(path for path in source.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"The folder {source} holds no text file ({', '.join(SUFFIXES)}). Name the files.")
    return found


def _read(path: Path) -> Iterator[str]:
    with files.readable(path, CHECK), path.open("rb") as file:
        last = ""
        for piece in _decode(iter(lambda: file.read(PIECE_BYTES), b""), str(path)):
            last = piece
            yield piece
        if last and not last.endswith("\n"):
            yield "\n"


def _decode(blocks: Iterator[bytes], name: str) -> Iterator[str]:
    """Text from bytes: UTF-8 checked, line ends made one, cut after the last line end of each block."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    held, position = "", 0
    for block in _and_end(blocks):
        if b"\0" in block:
            raise UserError(
                f"{name} is not a text file: byte {position + block.index(0)} is zero. Give plain UTF-8 text."
            )
        pending = len(decoder.getstate()[0])  # bytes of a character cut in half
        try:
            held += decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} is not UTF-8 text: near byte {position - pending + error.start} stands "
                f"0x{error.object[error.start]:02x}. Convert it first: iconv -f latin1 -t utf-8."
            ) from error
        position += len(block)
        cut = held.rfind("\n") + 1 if block else len(held)
        piece, held = held[:cut].replace("\r\n", "\n"), held[cut:]
        if piece:
            yield piece


def _and_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """All blocks, then an empty one: the end, where a character cut in half is noticed."""
    yield from blocks
    yield b""
