"""Conversations are read line by line, kept with who says what, and batched without their neighbours."""

import json

import numpy as np
import pytest

from handgrad.data import conversations, corpus, examples, token_file
from handgrad.data.examples import Example
from handgrad.errors import UserError

HI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\u2028\r\n"}]


def written(tmp_path, *lines):
    path = tmp_path / "talks.jsonl"
    path.write_bytes("\n".join(lines).encode())
    return corpus.open_corpus([path])


def test_a_line_is_a_table_with_messages_or_the_list_alone(tmp_path):
    text = written(tmp_path, json.dumps({"messages": HI, "id": 7}), "", json.dumps(HI, ensure_ascii=False))
    found = list(conversations.read(text))
    assert [messages for _, messages in found] == [HI, HI]
    assert [where.removeprefix(f"{tmp_path}/") for where, _ in found] == [
        "talks.jsonl, line 1", "talks.jsonl, line 3"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"messages": [', "is not JSON: "),
        ("[" * 100_000, "is not JSON: "),
        ('"Hi"', "is no conversation: 'Hi'"),
        ("[]", r"is no conversation: \[\]"),
        ('{"messages": {}}', "is no conversation: "),
        ('[{"role": "user"}]', "a role and a content, both text; got {'role': 'user'}"),
        ('[{"role": "user", "content": ["Hi"]}]', "a role and a content, both text"),
        ('[{"role": "user", "content": "\\ud800"}]', "a role and a content, both text"),
        ('["Hi"]', "a role and a content, both text; got 'Hi'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, sentence):
    text = written(tmp_path, json.dumps(HI), "", line)
    with pytest.raises(UserError, match=rf"talks\.jsonl, line 3\b.*{sentence}"):
        list(conversations.read(text))


def test_texts_and_conversations_do_not_mix(tmp_path):
    (tmp_path / "book.txt").write_text("Once")
    written(tmp_path, json.dumps(HI))
    texts = [tmp_path / "talks.jsonl", tmp_path / "book.txt"]
    with pytest.raises(UserError, match="from texts or from conversations"):
        conversations.are_in(corpus.open_corpus(texts))
    assert [conversations.are_in(corpus.open_corpus([text])) for text in texts] == [True, False]
    assert not conversations.are_in(corpus.embedded())


def example(first, n, said):
    return Example(np.arange(first, first + n), np.isin(np.arange(n), said))


TALKS = [example(10, 5, [3, 4]), example(20, 3, [2]), example(30, 50, [1, 2, 49]), example(90, 4, [3])]


@pytest.fixture
def stored(tmp_path):
    n = examples.write(tmp_path / "tokens", tmp_path / "marks", TALKS, 1000)
    return token_file.read(tmp_path / "tokens", 1000, n), tmp_path / "marks"


def test_a_sequence_is_one_conversation_and_only_what_is_said_counts(stored):
    learned, held_out = examples.read(*stored, context_length=40)
    assert (learned.n_sequences, held_out.n_sequences) == (3, 1)
    ((token_ids, targets),) = learned.spread(4)
    assert token_ids.shape == targets.shape == (3, 40)  # the longest is cut, the others are filled up
    for row, (ids, said) in enumerate(TALKS[:3]):
        n = min(len(ids) - 1, 40)
        np.testing.assert_array_equal(token_ids[row, :n], ids[:n])
        np.testing.assert_array_equal(targets[row, :n], np.where(said[1:], ids[1:], -1)[:n])
        assert (targets[row, n:] == -1).all()


def test_a_batch_of_short_ones_is_short(stored):
    _, held_out = examples.read(*stored, context_length=400)
    ((token_ids, targets),) = held_out.spread(4)
    assert token_ids.shape == (1, examples.MULTIPLE)
    assert targets[0, :4].tolist() == [-1, -1, 93, -1]
    assert held_out.opening().tolist() == [90, 91, 92]
    assert held_out.said().tolist() == [93]


def test_every_conversation_is_drawn_and_the_same_ones_from_the_same_seed(stored):
    learned, _ = examples.read(*stored, context_length=40)
    drawn, same = (learned.draw(64, np.random.default_rng(1))[0] for _ in range(2))
    np.testing.assert_array_equal(drawn, same)
    assert set(drawn[:, 0]) == {10, 20, 30}


@pytest.mark.parametrize("last", range(2, 31))
def test_the_last_tenth_is_kept_to_judge_by_and_one_at_least(tmp_path, last):
    talks = [example(0, 3, [2])] * last
    n = examples.write(tmp_path / "tokens", tmp_path / "marks", talks, 10)
    tokens = token_file.read(tmp_path / "tokens", 10, n)
    learned, held_out = examples.read(tokens, tmp_path / "marks", 8)
    assert learned.n_sequences + held_out.n_sequences == last
    assert held_out.n_sequences == max(1, round(last / 10))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda marks: marks[:-1], "a byte for each of 62 tokens"),
        (lambda marks: [0, *marks[1:]], "where conversations begin"),
        (lambda marks: [*marks[:-1], 4], "where conversations begin"),
        (lambda marks: [*marks[:-1], 0], "what is said in them"),
        (lambda marks: [3] * 62, "what is said in them"),
        (lambda marks: [2] + [1] * 61, "two conversations or more"),
    ],
)
def test_damaged_marks_are_refused(stored, damage, sentence):
    tokens, path = stored
    path.write_bytes(bytes(damage(list(path.read_bytes()))))
    with pytest.raises(UserError, match=sentence):
        examples.read(tokens, path, 60)
