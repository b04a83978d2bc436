"""The tokenizer in a GGUF file's metadata, and what stands around texts: beginning, end, chat template.

`tokenizer.ggml.model` is "gpt2", byte-level BPE with its merges, or "llama", SentencePiece's pieces with
scores. How "gpt2" splits a text into words is only named, in `tokenizer.ggml.pre`: the expressions behind the
names are those of the models' own tokenizer.json.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from handgrad.errors import UserError, shown
from handgrad.formats import sentencepiece
from handgrad.formats.tables import Table
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer, Tokenizer
from handgrad.tokenizer.byte_letters import as_bytes
from handgrad.tokenizer.pretrained import PretrainedTokenizer

if TYPE_CHECKING:
    import tokenizers
    from tokenizers.pre_tokenizers import PreTokenizer

KEY = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
NONE = ("none", "no_vocab")
OURS, ENDLESS = "handgrad.tokenizer", "handgrad.endless"
"""Our own keys, which llama.cpp passes over: which tokenizer of ours this is; that no token ends a text."""
NORMAL, UNKNOWN, CONTROL, OWN, UNUSED, BYTE = range(1, 7)
"""Types of tokens: of text; for text without one; for no text; found in a text first; none; for one byte."""

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{REST}"
QWEN2 = rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{REST}"

SPLITS = {
    "gpt-2": "gpt2", "phi-2": "gpt2", "jina-es": "gpt2", "jina-de": "gpt2",
    "smollm": "digits", "starcoder": "digits", "refact": "digits", "command-r": "digits",
    "codeshell": "digits",
    "llama-bpe": LLAMA3, "llama3": LLAMA3, "llama-v3": LLAMA3, "smaug-bpe": LLAMA3,
    "qwen2": QWEN2, "deepseek-r1-qwen": QWEN2,
}  # fmt: skip
"""What each name splits: GPT-2's words, the same after single digits, or an expression."""
LLAMA3_OWN = ("llama-bpe", "llama3", "llama-v3")
"""Here a word that is a token is taken whole, and texts begin with BOS where the file does not say."""

ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
ENDINGS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "</s>")
"""Control tokens after which a text is over, said or not: llama.cpp takes them for ends, too."""


class Text(NamedTuple):
    """What `Model` has besides weights, by its names."""

    tokenizer: Tokenizer | None = None
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    chat_template: str | None = None


def read(metadata: Table, vocab_size: int) -> Text:
    """What the metadata says of texts; `UserError` where it is damaged, or a tokenizer handgrad has not."""
    kind = metadata.text(KEY + "model") if KEY + "model" in metadata.fields else NONE[0]
    template = metadata.text(TEMPLATE) if TEMPLATE in metadata.fields else None
    if kind in NONE:
        return Text(chat_template=template)
    if kind not in ("gpt2", "llama"):
        raise metadata.error(f"handgrad knows the tokenizers gpt2 and llama; this file has {shown(kind)}.")
    tokens = _list(metadata, KEY + "tokens", vocab_size)
    types = _types(metadata, len(tokens))
    used = int(np.flatnonzero(types != UNUSED).max(initial=0)) + 1  # padding has the last ids
    tokens, types = tokens[:used], types[:used]
    ends = () if metadata.fields.get(ENDLESS) is True else _ends(metadata, tokens, types)
    return Text(_tokenizer(metadata, kind, tokens, types), _starts(metadata, kind, used), ends, template)


def _tokenizer(metadata: Table, kind: str, tokens: list[str], types: np.ndarray) -> Tokenizer:
    try:
        if OURS in metadata.fields:
            return _own(metadata.text(OURS, ("characters", "bytes")), tokens)
        make = {"gpt2": _byte_level, "llama": _pieces}[kind]
        return PretrainedTokenizer(make(metadata, tokens, types))
    except UserError:
        raise
    except BaseException as error:  # the library raises bare Exception, and where it panics not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise metadata.error(f"Its tokens are no tokenizer: {str(error)[:200]}.") from error


def _own(kind: str, tokens: list[str]) -> Tokenizer:
    """A tokenizer of ours."""
    if kind == "bytes":
        return ByteTokenizer()
    return CharacterTokenizer("".join(as_bytes(token).decode() for token in tokens))


def _byte_level(metadata: Table, tokens: list[str], types: np.ndarray) -> "tokenizers.Tokenizer":
    """GPT-2's kind: bytes as characters, merged in the order of a list."""
    from tokenizers import Tokenizer, decoders, models

    split = _split_of(metadata)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise metadata.error("Its tokens must differ.")
    merges = [_pair(metadata, merge) for merge in _list(metadata, KEY + "merges")]
    made = Tokenizer(
        models.BPE(vocabulary, merges, ignore_merges=metadata.fields.get(KEY + "pre") in LLAMA3_OWN)
    )
    made.pre_tokenizer = pre_tokenizer(split)
    made.decoder = decoders.ByteLevel()
    sentencepiece.add_tokens(made, tokens, *_kept_whole(types))
    return made


def _split_of(metadata: Table) -> str:
    default = "gpt-2" if metadata.fields["general.architecture"] == "gpt2" else None
    if KEY + "pre" not in metadata.fields and default:
        return SPLITS[default]
    name = metadata.text(KEY + "pre")
    if name not in SPLITS:
        raise metadata.error(f"handgrad does not know how {KEY}pre {shown(name)} splits a text into words.")
    return SPLITS[name]


def pre_tokenizer(split: str) -> "PreTokenizer":
    from tokenizers import Regex, pre_tokenizers

    if split == "gpt2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if split == "digits":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words = pre_tokenizers.Split(Regex(split), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([words, as_bytes])


def _pair(metadata: Table, merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right or " " in right:
        raise metadata.error(f"A merge is two tokens with a blank between them; got {shown(merge)}.")
    return left, right


def _pieces(metadata: Table, tokens: list[str], types: np.ndarray) -> "tokenizers.Tokenizer":
    """SentencePiece's kind."""
    scores = _numbers(metadata, KEY + "scores")[: len(tokens)]
    if not np.isfinite(scores).all():
        raise metadata.error("The scores of its tokens must be finite.")
    special, whole = _kept_whole(types)
    unknown = _token_id(metadata, "unknown_token_id", len(tokens))
    pieces = sentencepiece.Pieces(tokens, scores.tolist(), special, whole, 0 if unknown is None else unknown)
    starts_with_blank = metadata.fields.get(KEY + "add_space_prefix", True)
    return sentencepiece.tokenizer(pieces, starts_with_blank=bool(starts_with_blank))


def _kept_whole(types: np.ndarray) -> tuple[frozenset[int], frozenset[int]]:
    """Ids of tokens that stand for no text, and of those that are found in a text before anything else."""
    special, own = (np.flatnonzero(np.isin(types, kinds)).tolist() for kinds in ((CONTROL, UNKNOWN), (OWN,)))
    return frozenset(special), frozenset(own)


def _starts(metadata: Table, kind: str, n: int) -> tuple[int, ...]:
    """BOS, where texts begin with it."""
    usual = kind == "llama" or metadata.fields.get(KEY + "pre") in LLAMA3_OWN
    bos = _token_id(metadata, "bos_token_id", n)
    return (bos,) if metadata.fields.get(KEY + "add_bos_token", usual) is True and bos is not None else ()


def _ends(metadata: Table, tokens: list[str], types: np.ndarray) -> tuple[int, ...]:
    """The tokens after which a text is over."""
    named = [_token_id(metadata, key, len(tokens)) for key in ENDS]
    known = [i for i in np.flatnonzero(types == CONTROL).tolist() if tokens[i] in ENDINGS]
    return tuple(dict.fromkeys(i for i in [*named, *known] if i is not None))


def _token_id(metadata: Table, name: str, n: int) -> int | None:
    if KEY + name not in metadata.fields:
        return None
    number = metadata.whole(KEY + name)
    if number >= n:
        raise metadata.error(f"{KEY}{name} is {number}, and there are {n} tokens.")
    return number


def _types(metadata: Table, n: int) -> np.ndarray:
    if KEY + "token_type" not in metadata.fields:
        return np.full(n, NORMAL)
    return _numbers(metadata, KEY + "token_type")


def _numbers(metadata: Table, key: str) -> np.ndarray:
    """A list of numbers, one a token."""
    value, n = metadata.fields.get(key), len(metadata.fields[KEY + "tokens"])
    if not isinstance(value, np.ndarray) or len(value) != n:
        raise metadata.error(f"{key} must list {n:,} numbers, one a token.")
    return value


def _list(metadata: Table, key: str, most: int | None = None) -> list[str]:
    """A list of texts, at most so many."""
    value = metadata.fields.get(key)
    if not isinstance(value, list) or (most is not None and not 0 < len(value) <= most):
        limit = "" if most is None else f", 1 to {most:,}, as many as the model has rows for"
        raise metadata.error(f"{key} must list texts{limit}.")
    return value
