"""Tokenizers lose nothing: what they encode they decode, and what they cannot encode they refuse."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.errors import UserError
from handgrad.tokenizer import KINDS, BPETokenizer, ByteTokenizer, CharacterTokenizer, from_json, train

TEXT = "To be, or not to be: that is the question. Ärger über 3 Öfen, naïve café, 東京 🙂\n" * 4
texts = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return train(request.param, [TEXT], vocab_size=300)


def test_what_is_encoded_is_decoded(tokenizer):
    token_ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(token_ids) == TEXT
    assert token_ids.min() >= 0
    assert token_ids.max() < tokenizer.vocab_size


@given(texts)
def test_bytes_know_every_text(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


BPE = train("bpe", [TEXT], vocab_size=300)


@given(texts)
def test_bpe_knows_every_text(text):
    assert BPE.decode(BPE.encode(text)) == text


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_characters_know_the_text_they_were_made_from(text):
    tokenizer = CharacterTokenizer.train([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


def test_a_character_never_seen_is_named():
    tokenizer = CharacterTokenizer.train([TEXT])
    with pytest.raises(UserError, match="never seen '#', 'ß'"):
        tokenizer.encode("#groß")


def test_streaming_gives_the_same_text_and_never_half_a_character(tokenizer):
    step = tokenizer.stream()
    pieces = [step(int(i)) for i in tokenizer.encode(TEXT)]
    assert "".join(pieces) == TEXT
    assert "�" not in "".join(pieces)


def test_what_is_kept_as_json_comes_back(tokenizer):
    again = from_json(json.dumps(tokenizer.to_json()))
    np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))
    assert again.vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_a_text_in_pieces_has_the_ids_of_the_whole(kind, data):
    text = data.draw(st.text(st.sampled_from("abet ',\n\t\r\x1f\u2028\xa0"), max_size=60))
    tokenizer = {"characters": CharacterTokenizer.train([text]) if text else None, "bpe": SPECIAL}.get(
        kind, ByteTokenizer()
    )
    if tokenizer is None:
        return
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    ids = [token_id for part in tokenizer.encode_iterable(pieces) for token_id in part.tolist()]
    assert ids == tokenizer.encode(text).tolist()


def test_a_long_text_is_encoded_piece_by_piece():
    pieces = iter(["To be, or not to be. "] * 100)
    assert next(SPECIAL.encode_iterable(pieces)).size > 0
    assert len(list(pieces)) == 99  # the rest of the text was not read


BLANKS = "\n\n\n    \n\n  be,\n \n" * 9  # runs of blanks become tokens too
SPECIAL = train("bpe", [TEXT + BLANKS], vocab_size=300, special_tokens=["<|end|>", "<|pad|>"])


def test_special_tokens_are_one_id_each_and_are_decoded():
    assert SPECIAL.special_tokens == {
        "<|end|>": SPECIAL.vocab_size - 2,
        "<|pad|>": SPECIAL.vocab_size - 1,
    }
    assert SPECIAL.vocab_size <= 300
    ids = SPECIAL.encode("To be<|end|> or")
    assert ids.tolist().count(SPECIAL.special_tokens["<|end|>"]) == 1
    assert SPECIAL.decode(ids) == "To be<|end|> or"
    again = from_json(json.dumps(SPECIAL.to_json()))
    assert again.special_tokens == SPECIAL.special_tokens


@pytest.mark.parametrize("names", ["<|end|>", [""], ["a b"], ["<x>", "<x>"], [3], 3, ["a"], ["be"]])
def test_special_tokens_that_cannot_be_are_refused(names):
    with pytest.raises(UserError, match=r"[Ss]pecial.token"):
        train("bpe", [TEXT], vocab_size=300, special_tokens=names)


def test_special_tokens_are_for_bpe_alone():
    with pytest.raises(UserError, match="Only bpe"):
        train("characters", [TEXT], special_tokens=["<|end|>"])


@pytest.mark.parametrize("ids", [[-1], [10**6], [1.5], [[1, 2]], ["a"], [2**70], None])
def test_ids_that_no_token_has_are_refused(tokenizer, ids):
    with pytest.raises(UserError, match="Token ids"):
        tokenizer.decode(ids)


def test_a_stream_refuses_ids_that_no_token_has(tokenizer):
    for token_id in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match="Token ids are 0 to"):
            tokenizer.stream()(token_id)


def test_ids_may_be_a_list_or_a_tensor(tokenizer):
    torch = pytest.importorskip("torch", reason="PyTorch is an oracle: install the extra [oracles]")
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids.tolist()) == tokenizer.decode(torch.tensor(ids)) == TEXT
    assert tokenizer.decode([]) == ""


def test_bpe_merges_frequent_pairs_and_is_shorter_than_bytes():
    assert len(BPE.encode(TEXT)) < len(ByteTokenizer().encode(TEXT)) / 2
    assert BPE.vocab_size <= 300


@pytest.mark.parametrize("size", [255, -1, (1 << 20) + 1, 1 << 32, 10**30, 300.0])
def test_bpe_has_room_for_all_bytes_and_no_more_than_memory_holds(size):
    with pytest.raises(UserError, match="256 bytes"):
        BPETokenizer.train([TEXT], size)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match=r"choose one of characters, bytes, bpe\. Did you mean bytes"):
        train("byte", [TEXT])


def bpe_with(change):
    """BPE's JSON with something changed in it."""
    data = BPE.to_json()
    change(data["tokenizer"])
    return json.dumps(data)


LLAMA3S_SPLIT = {
    "type": "Sequence",
    "pretokenizers": [
        {
            "type": "Split",
            "pattern": {"Regex": r"[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"},
            "behavior": "Isolated",
            "invert": False,
        },
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ],
}
"""Line ends belong to the full stop before them, where our `encode_iterable` would cut."""


def vocabulary(**ids):
    return bpe_with(lambda tokenizer: tokenizer["model"]["vocab"].update(ids))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        '{"kind": ' + "9" * 5000 + "}",
        '{"kind": "words"}',
        '{"kind": ["characters"]}',
        '{"kind": "characters"}',
        '{"kind": "characters", "characters": "ba"}',
        '{"kind": "characters", "characters": "aa"}',
        '{"kind": "characters", "characters": ""}',
        '{"kind": "characters", "characters": ["a", "b"]}',
        '{"kind": "characters", "characters": 12}',
        '{"kind": "characters", "characters": {"a": 1}}',
        '{"kind": "characters", "characters": "\\ud800"}',
        '{"kind": "bpe"}',
        '{"kind": "bpe", "tokenizer": null}',
        '{"kind": "bpe", "tokenizer": {"version": "9"}}',
        '{"kind": "bpe", "tokenizer": ' + "[" * 100_000 + "}",
        vocabulary(a=999),
        vocabulary(a=1),
        vocabulary(a=-1),
        vocabulary(a=1 << 32),
        vocabulary(a=(1 << 32) - 1),
        bpe_with(lambda tokenizer: tokenizer["model"]["vocab"].pop("a")),
        bpe_with(lambda tokenizer: tokenizer["model"]["merges"].append(["?!", "a"])),
        bpe_with(lambda tokenizer: tokenizer.update(pre_tokenizer=None)),
        bpe_with(lambda tokenizer: tokenizer.update(decoder=None)),
        bpe_with(lambda tokenizer: tokenizer.update(model={})),
        bpe_with(lambda tokenizer: tokenizer["model"].update(type="WordLevel", unk_token="a")),
        bpe_with(lambda tokenizer: tokenizer["model"].update(type="WordLevel", unk_token="zz")),
        bpe_with(lambda tokenizer: tokenizer["model"].update(dropout=0.5)),
        bpe_with(lambda tokenizer: tokenizer.update(normalizer={"type": "NFC"})),
        bpe_with(lambda tokenizer: tokenizer["pre_tokenizer"].update(use_regex=False)),
        bpe_with(lambda tokenizer: tokenizer.update(pre_tokenizer=LLAMA3S_SPLIT)),
    ],
    ids=lambda content: content[:60],
)
def test_what_is_no_tokenizer_is_refused_in_a_sentence(content):
    with pytest.raises(UserError, match="tokenizer") as refused:
        from_json(content)
    assert len(str(refused.value)) < 300


def test_a_tokenizer_that_cuts_long_texts_encodes_them_whole():
    cut = {"max_length": 40, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    tokenizer = from_json(bpe_with(lambda tokenizer: tokenizer.update(truncation=cut)))
    # its probe is longer than 40 tokens too: a tokenizer that still cut would be refused
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_merges_of_another_vocabulary_are_refused():
    model = BPE.to_json()["tokenizer"]["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    again = BPETokenizer.from_merges(model["vocab"], merges)
    assert again.encode(TEXT).tolist() == BPE.encode(TEXT).tolist()
    with pytest.raises(UserError, match="These are no tokenizer"):
        BPETokenizer.from_merges(model["vocab"], [*merges, ("?!", "a")])
    with pytest.raises(UserError, match="it loses text"):
        BPETokenizer.from_merges({"a": 0, "b": 1}, [])


def test_an_alphabet_of_nothing_is_refused():
    with pytest.raises(UserError, match="Give some text"):
        train("characters", [])


@pytest.mark.parametrize("text", ["\udcff", "be\ud800"])
def test_half_a_surrogate_pair_is_no_text(tokenizer, text):
    with pytest.raises(UserError, match="not valid UTF-8"):
        tokenizer.encode(text)
    with pytest.raises(UserError, match="not valid UTF-8"):
        list(tokenizer.encode_iterable([TEXT, text]))


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_nothing_is_learned_from_half_a_surrogate_pair(kind):
    with pytest.raises(UserError, match="not valid UTF-8"):
        train(kind, ["be\ud800"], vocab_size=300)
