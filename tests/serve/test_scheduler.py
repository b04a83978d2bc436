"""The scheduler alone, without model and HTTP: its decoding answers with every token that it has read."""

import threading

import numpy as np
import pytest

from handgrad.errors import UserError
from handgrad.generation.writer import Piece
from handgrad.serve.job import Failure, Job
from handgrad.serve.scheduler import ClosingError, FullError, Scheduler

V = 97


def following(tokens):
    """The token after `tokens`: another one wherever any of them differs."""
    return hash(tuple(tokens)) % V


class Decoding:
    """Texts as lists; the logits name the token that follows."""

    def __init__(self, n_texts):
        self.texts = [[] for _ in range(n_texts)]
        self.passes = []

    @property
    def lengths(self):
        return np.array([len(text) for text in self.texts])

    def read(self, pieces, texts):
        self.passes.append({text: len(piece) for text, piece in zip(texts, pieces, strict=True)})
        for piece, text in zip(pieces, texts, strict=True):
            self.texts[text] += piece.tolist()
        return np.stack([np.eye(V)[following(self.texts[text])] for text in texts])

    def cut(self, text, length):
        assert length <= len(self.texts[text])
        self.texts[text] = self.texts[text][:length]


class Writer:
    """Always the likeliest, up to a number of tokens."""

    def __init__(self, most):
        self.left = most

    def next(self, logits):
        self.left -= 1
        return Piece("", int(np.argmax(logits)), finished=None if self.left else "length")


class Waiting:
    """Whoever waits for one text."""

    def __init__(self, prompt, most=4, **settings):
        self.prompt, self.most, self.heard = prompt, most, []
        self.job = Job(np.array(prompt), Writer(most), self.heard.append, **settings)

    @property
    def answer(self):
        return [piece.token_id for piece in self.heard]

    @property
    def is_over(self):
        return bool(self.heard) and (
            isinstance(self.heard[-1], Failure) or self.heard[-1].finished is not None
        )

    @property
    def alone(self):
        """The answer that it gets when nobody else is there."""
        tokens = list(self.prompt)
        for _ in range(self.most):
            tokens.append(following(tokens))
        return tokens[len(self.prompt) :]


@pytest.fixture
def decoding():
    return Decoding(2)


@pytest.fixture
def clock():
    return Clock()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def finish(scheduler, *waiting):
    for _ in range(100):
        if all(each.is_over for each in waiting):
            return
        scheduler.step()
    raise AssertionError("not over after a hundred passes")


def test_every_answer_is_the_one_given_alone(decoding, rng):
    scheduler = Scheduler(decoding, prompt_tokens=3)
    waiting = [
        Waiting(rng.integers(0, 3, size=rng.integers(1, 12)).tolist(), most=int(rng.integers(1, 9)))
        for _ in range(20)
    ]
    for each in waiting:  # some join while others are being written
        scheduler.submit(each.job)
        scheduler.step()
    finish(scheduler, *waiting)
    assert [each.answer for each in waiting] == [each.alone for each in waiting]
    assert scheduler.counts.ended == {"length": 20}
    assert scheduler.counts.written_tokens == sum(each.most for each in waiting)


def test_a_long_prompt_does_not_stop_an_answer(decoding):
    scheduler = Scheduler(decoding, prompt_tokens=4)
    answer, prompt = Waiting([1], most=10), Waiting(list(range(20)), most=1)
    scheduler.submit(answer.job)
    scheduler.step()
    scheduler.submit(prompt.job)
    finish(scheduler, answer, prompt)
    assert decoding.passes[1:6] == [{0: 1, 1: 4}] * 5
    assert answer.answer == answer.alone


def test_a_turn_of_a_conversation_reads_only_what_is_new(decoding):
    scheduler = Scheduler(decoding)
    first = Waiting([1, 2, 3])
    scheduler.submit(first.job)
    finish(scheduler, first)
    other = Waiting([7, 7])
    second = Waiting([1, 2, 3, *first.answer, 5])
    scheduler.submit(other.job, second.job)
    finish(scheduler, other, second)
    assert second.job.n_cached == 3 + 3  # the last token that was written has not been read
    assert (other.answer, second.answer) == (other.alone, second.alone)


def test_the_same_prompt_again_is_answered_the_same(decoding):
    scheduler = Scheduler(decoding)
    first, second = Waiting([1, 2, 3]), Waiting([1, 2, 3])
    for each in (first, second):
        scheduler.submit(each.job)
        finish(scheduler, each)
    assert second.job.n_cached == 2
    assert second.answer == first.answer == first.alone


def test_no_more_wait_than_may_and_the_others_are_told_when_to_return(decoding, clock):
    scheduler = Scheduler(decoding, most_waiting=1, clock=clock)
    running = [Waiting([i]) for i in range(3)]
    scheduler.submit(*(each.job for each in running))
    with pytest.raises(FullError) as full:
        scheduler.submit(Waiting([9]).job)
    assert 1 <= full.value.seconds <= 60
    assert scheduler.counts.ended["refused"] == 1
    finish(scheduler, *running)
    scheduler.submit(Waiting([9]).job)


def test_several_jobs_are_taken_together_or_not_at_all(decoding):
    scheduler = Scheduler(decoding, most_waiting=1)
    assert scheduler.most_at_once == 3
    with pytest.raises(FullError):
        scheduler.submit(*(Waiting([i]).job for i in range(4)))
    scheduler.step()
    assert decoding.passes == []


def test_who_leaves_makes_room_at_once(decoding):
    scheduler = Scheduler(decoding)
    leaving = [Waiting([i], most=50) for i in range(3)]
    staying = Waiting([8])
    scheduler.submit(*(each.job for each in leaving), staying.job)
    scheduler.step()
    for each in leaving:
        each.job.left = True
    scheduler.step()
    assert [len(each.heard) for each in leaving] == [1, 1, 0]
    finish(scheduler, staying)
    assert staying.answer == staying.alone
    assert scheduler.counts.ended == {"left": 3, "length": 1}


def test_a_text_has_its_time_whether_it_waits_or_is_written(decoding, clock):
    scheduler = Scheduler(decoding, clock=clock)
    slow = [Waiting([i], most=50, seconds=5.0) for i in range(3)]
    scheduler.submit(*(each.job for each in slow))
    scheduler.step()
    clock.now = 5.0
    scheduler.step()
    assert [each.heard[-1].kind for each in slow] == ["timeout"] * 3
    assert scheduler.counts.ended == {"timeout": 3}


def test_a_failed_pass_ends_its_texts_and_the_next_ones_are_right(decoding, caplog):
    scheduler = Scheduler(decoding)
    lost, later = Waiting([1, 2, 3]), Waiting([1, 2, 3])
    scheduler.submit(lost.job)
    scheduler.step()
    read, decoding.read = decoding.read, None
    scheduler.step()
    decoding.read = read
    assert lost.heard[-1].kind == "model"
    assert "A pass failed" in caplog.text
    scheduler.submit(later.job)
    finish(scheduler, later)
    assert later.answer == later.alone


@pytest.mark.parametrize("error", [UserError("not finite"), ZeroDivisionError("not finite")])
def test_a_writer_that_cannot_go_on_ends_its_own_text_alone(decoding, error):
    scheduler = Scheduler(decoding)
    damaged, whole = Waiting([1]), Waiting([2])

    def refuse(logits):
        raise error

    damaged.job.writer.next = refuse
    scheduler.submit(damaged.job, whole.job)
    finish(scheduler, damaged, whole)
    assert [failure.kind for failure in damaged.heard] == ["model"]
    assert ("not finite" in damaged.heard[0].sentence) == isinstance(error, UserError)
    assert whole.answer == whole.alone


def test_one_who_cannot_be_told_disturbs_nobody(decoding, caplog):
    scheduler = Scheduler(decoding)
    gone, there = Waiting([1], most=50), Waiting([2])
    gone.job.report = None
    scheduler.submit(gone.job, there.job)
    finish(scheduler, there)
    assert there.answer == there.alone
    assert scheduler.counts.ended["left"] == 1
    assert "could not be handed over" in caplog.text


def test_closing_ends_what_can_be_ended_in_time_and_stops_the_rest(decoding, clock):
    scheduler = Scheduler(decoding, clock=clock)
    short, long, waiting = (Waiting([1], most=2), Waiting([2], most=50), Waiting([3], most=50))
    scheduler.submit(short.job, long.job, waiting.job)
    scheduler.close(10.0)
    with pytest.raises(ClosingError):
        scheduler.submit(Waiting([4]).job)
    finish(scheduler, short)
    clock.now = 10.0
    scheduler.step()
    assert short.answer == short.alone
    assert [each.heard[-1].kind for each in (long, waiting)] == ["shutdown"] * 2


def test_the_thread_waits_for_work_and_ends_when_closed(decoding):
    scheduler = Scheduler(decoding)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    done = threading.Event()
    one = Waiting([1, 2])
    one.job.report = lambda piece: (one.heard.append(piece), piece.finished and done.set())
    scheduler.submit(one.job)
    assert done.wait(10)
    assert one.answer == one.alone
    scheduler.close()
    thread.join(10)
    assert not thread.is_alive()


def test_its_numbers_are_prometheus_text(decoding):
    scheduler = Scheduler(decoding)
    one = Waiting([1, 2, 3])
    scheduler.submit(one.job)
    finish(scheduler, one)
    lines = scheduler.metrics().splitlines()
    assert 'handgrad_texts_total{reason="length"} 1' in lines
    assert 'handgrad_tokens_total{kind="prompt"} 3' in lines
    assert 'handgrad_tokens_total{kind="written"} 4' in lines
    assert "handgrad_slots 2" in lines
    assert "# TYPE handgrad_texts_running gauge" in lines
    parser = pytest.importorskip("prometheus_client.parser")
    names = {family.name for family in parser.text_string_to_metric_families(scheduler.metrics())}
    assert "handgrad_texts" in names
