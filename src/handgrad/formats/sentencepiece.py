"""A byte-pair tokenizer from pieces with scores, as Llama 2 and llama2.c have it.

SentencePiece joins the two neighbours whose union has the highest score, again and again. Its pieces are
given by id, a blank as U+2581; bytes without a piece are <0xNN>. The `tokenizers` library merges pairs in a
given order, so every way to cut a piece into two others is a merge, the piece of highest score first.

Source: Kudo & Richardson, "SentencePiece" (2018), arXiv:1808.06226; merges: Sennrich et al. (2015).
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from handgrad.errors import UserError

if TYPE_CHECKING:
    import tokenizers

BLANK = "\u2581"
LONGEST_PIECE = 256
"""Characters: a piece is cut at every place."""
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


class Pieces(NamedTuple):
    """A vocabulary by id."""

    texts: Sequence[str]
    scores: Sequence[float]
    special: frozenset[int]
    """Ids that stand for no text."""
    whole: frozenset[int] = frozenset()
    """Ids whose text is found before anything is merged."""
    unknown: int = 0


def tokenizer(pieces: Pieces, *, starts_with_blank: bool) -> "tokenizers.Tokenizer":
    """The tokenizer; with `starts_with_blank` a text is encoded as if a blank stood before it.

    Raises `UserError` for pieces that are no vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {text: number for number, text in enumerate(pieces.texts)}
    if len(vocabulary) != len(pieces.texts) or any(len(text) > LONGEST_PIECE for text in vocabulary):
        raise UserError(f"Pieces of a tokenizer must differ, and have at most {LONGEST_PIECE} characters.")
    unknown = pieces.texts[pieces.unknown]
    model = models.BPE(
        vocabulary, _merges(pieces, vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    made = Tokenizer(model)
    blank = [normalizers.Prepend(BLANK)] if starts_with_blank else []
    made.normalizer = normalizers.Sequence([*blank, normalizers.Replace(" ", BLANK)])
    strip = [decoders.Strip(" ", 1, 0)] if starts_with_blank else []
    made.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    add_tokens(made, pieces.texts, pieces.special, pieces.whole)
    return made


def add_tokens(
    made: "tokenizers.Tokenizer", texts: Sequence[str], special: Iterable[int], whole: Iterable[int]
) -> None:
    """Have some of the vocabulary's tokens found in a text before anything else."""
    from tokenizers import AddedToken

    made.add_special_tokens([AddedToken(texts[i], special=True, normalized=False) for i in sorted(special)])
    made.add_tokens([AddedToken(texts[i], normalized=False) for i in sorted(whole)])


def _merges(pieces: Pieces, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a third, the third's score descending."""
    usable = vocabulary.keys() - set(BYTES) - {pieces.texts[i] for i in pieces.special}
    found = []
    for text in usable:
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in usable and right in usable:
                found.append((-pieces.scores[vocabulary[text]], vocabulary[left], vocabulary[right]))
    return [(pieces.texts[left], pieces.texts[right]) for _, left, right in sorted(found)]
