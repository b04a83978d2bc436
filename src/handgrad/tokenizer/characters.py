"""One token a character, the alphabet taken from the text."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np

from handgrad.errors import UserError
from handgrad.tokenizer.boundary import listed, valid


class CharacterTokenizer:
    """The characters of a text, sorted; a character's id is its place."""

    kind = "characters"

    def __init__(self, characters: str):
        if not isinstance(characters, str):
            raise ValueError(f"an alphabet is a text; got {type(characters).__name__}")
        if list(characters) != sorted(set(characters)) or not characters:
            raise ValueError("an alphabet lists each character once, in order")
        self.characters = characters
        self._codes = _codes(characters)

    @classmethod
    def train(cls, texts: Iterable[str]) -> Self:
        """The alphabet of `texts`; `UserError` where they are empty."""
        characters = valid("".join(sorted(set().union(*map(set, texts)))))
        if not characters:
            raise UserError("An alphabet is made from a text; this one is empty. Give some text.")
        return cls(characters)

    @property
    def special_tokens(self) -> dict[str, int]:
        return {}

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        codes = _codes(valid(text))
        ids = np.minimum(np.searchsorted(self._codes, codes), self.vocab_size - 1)
        unknown = codes[self._codes[ids] != codes]
        if unknown.size:
            seen = ", ".join(repr(chr(code)) for code in np.unique(unknown)[:8])
            raise UserError(
                f"This model knows the {self.vocab_size} characters of the text it was trained on; it has "
                f"never seen {seen}. Leave them out, or train with --tokenizer bytes, which knows all."
            )
        return ids

    def encode_iterable(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        return map(self.encode, pieces)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        return "".join(self.characters[i] for i in listed(token_ids, self.vocab_size))

    def stream(self, *, begins: bool = False) -> Callable[[int], str]:
        return lambda token_id: self.decode([token_id])

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters}


def _codes(text: str) -> np.ndarray:
    """The code points of `text`."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
