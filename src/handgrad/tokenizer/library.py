"""Our tokenizers as ones of the `tokenizers` library, which others read: the same ids for the same text.

Characters become a word level whose words are single characters: it too refuses a character that it has never
seen. Bytes become byte-level BPE without merges. BPE and pretrained ones are the library's already.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from handgrad.errors import UserError
from handgrad.tokenizer.bpe import BPETokenizer
from handgrad.tokenizer.byte_letters import BYTES
from handgrad.tokenizer.characters import CharacterTokenizer
from handgrad.tokenizer.pretrained import PretrainedTokenizer
from handgrad.tokenizer.utf8 import ByteTokenizer

if TYPE_CHECKING:
    import tokenizers

    from handgrad.tokenizer import Tokenizer


def tokenizer(ours: "Tokenizer", starts: Sequence[int] = ()) -> "tokenizers.Tokenizer":
    """The same tokenizer, as the library has it; it puts the ids `starts` before every text."""
    from tokenizers import Tokenizer

    if isinstance(ours, CharacterTokenizer):
        made = _of_characters(ours)
    elif isinstance(ours, ByteTokenizer):
        made = _of_bytes()
    else:
        assert isinstance(ours, BPETokenizer | PretrainedTokenizer)
        made = Tokenizer.from_str(ours.library_json())
    if tuple(starts) != (ours.starts if isinstance(ours, PretrainedTokenizer) else ()):
        made = _with_starts(made, starts)
    return made


def _of_characters(ours: CharacterTokenizer) -> "tokenizers.Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {character: i for i, character in enumerate(ours.characters)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=""))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return made


def _of_bytes() -> "tokenizers.Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(BYTES, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def _with_starts(made: "tokenizers.Tokenizer", starts: Sequence[int]) -> "tokenizers.Tokenizer":
    """The same tokenizer, which puts `starts` before every text instead of what it put there."""
    from tokenizers import Tokenizer

    names = {token_id: made.id_to_token(token_id) for token_id in starts}
    if missing := [token_id for token_id, name in names.items() if name is None]:
        raise UserError(f"Texts start with ids that are tokens; the tokenizer has no {missing[0]}.")
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    described = json.loads(made.to_str())
    described["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": names[i], "type_id": 0}} for i in starts] + text,
        "pair": [*text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in names.items()},
    }
    return Tokenizer.from_str(json.dumps(described))
