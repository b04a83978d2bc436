"""A tokenizer.json from elsewhere is read as it is, and a text that goes on keeps its blanks."""

import json

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from handgrad import tokenizer as tokenizers
from handgrad.errors import UserError
from handgrad.tokenizer import CharacterTokenizer, PretrainedTokenizer, library

TEXT = "ab a é  ab\n東🙂"


def pieces():
    """As Llama 2's: blanks are "▁", what has no piece is spelled in bytes, every text begins with a blank."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{i:02X}>": 3 + i for i in range(256)}}
    for piece in ("▁", "a", "b", "ab", "▁a", "▁ab"):
        vocabulary[piece] = len(vocabulary)
    merges = [("a", "b"), ("▁", "a"), ("▁", "ab")]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def words():
    """As Llama 3's and Qwen's: bytes, in words of their own split."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s+|."), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT * 5], trainer)
    made.add_special_tokens(["<|end|>"])
    return made


@pytest.fixture(params=[pieces, words])
def theirs(request):
    return request.param()


@pytest.fixture
def tokenizer(theirs):
    return PretrainedTokenizer(theirs)


def test_ids_are_those_of_the_library_without_what_it_adds(theirs, tokenizer):
    np.testing.assert_array_equal(tokenizer.encode(TEXT), theirs.encode(TEXT, add_special_tokens=False).ids)
    assert [*tokenizer.starts, *tokenizer.encode(TEXT)] == theirs.encode(TEXT).ids


def test_what_is_encoded_is_decoded(tokenizer):
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    np.testing.assert_array_equal(
        np.concatenate(list(tokenizer.encode_iterable([TEXT[:4], TEXT[4:]]))), tokenizer.encode(TEXT)
    )


def test_a_stream_is_the_text(tokenizer):
    stream = tokenizer.stream(begins=True)
    assert "".join(map(stream, tokenizer.encode(TEXT))) == TEXT


def test_a_text_that_goes_on_keeps_the_blank_between_it_and_the_prompt():
    tokenizer = PretrainedTokenizer(pieces())
    stream = tokenizer.stream()
    assert "".join(map(stream, tokenizer.encode("ab a"))) == " ab a"


def test_special_tokens_are_shown_by_their_names():
    tokenizer = PretrainedTokenizer(words())
    token_ids = tokenizer.encode("ab<|end|>")
    assert token_ids[-1] == tokenizer.token_id("<|end|>") == tokenizer.vocab_size - 1
    assert tokenizer.decode(token_ids) == "ab<|end|>"


def test_it_is_kept_as_json(tokenizer):
    again = tokenizers.from_json(json.dumps(tokenizer.to_json()))
    assert (again.kind, again.vocab_size, again.starts) == (
        "pretrained",
        tokenizer.vocab_size,
        tokenizer.starts,
    )
    np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("model"),
        lambda data: data["model"].update(vocab={}, merges=[]),
        lambda data: data["model"].update(dropout=0.5),
        lambda data: data["added_tokens"].append({"id": 1 << 40}),
    ],
)
def test_what_is_no_tokenizer_is_refused(damage):
    data = json.loads(pieces().to_str())
    damage(data)
    with pytest.raises(UserError, match="no tokenizer"):
        tokenizers.from_json(json.dumps({"kind": "pretrained", "tokenizer": data}))


def test_ids_beyond_the_tokens_are_not_decoded(tokenizer):
    with pytest.raises(UserError, match=f"0 to {tokenizer.vocab_size - 1}"):
        tokenizer.decode([tokenizer.vocab_size])


def test_a_text_without_tokens_is_said():
    tokenizer = PretrainedTokenizer(library.tokenizer(CharacterTokenizer(" bc")))
    assert tokenizer.decode(tokenizer.encode("c b")) == "c b"
    with pytest.raises(UserError, match="no tokens for all of this text"):
        tokenizer.encode("a")
