"""A process that dies or stands still is named, and the others end."""

import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("jax", reason="the xla engine runs on JAX: install the extra [xla]")

import jax

from handgrad.engines.xla.watch import PATIENCE, SUSPECT, Watch


class Service(dict):
    """What processes tell each other, as JAX's coordination service keeps it."""

    answers = True

    def key_value_set(self, key, value, allow_overwrite=False):
        if not self.answers:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE")
        self[key] = value

    def key_value_dir_get(self, key):
        return list(self.items())


def three(service, address="127.0.0.1:1"):
    return [Watch(service, index, 3, address, "Go on.", end=pytest.fail) for index in range(3)]


def seconds(watch, others, n):
    """`n` seconds pass; what `watch` says at their ends."""
    said = []
    for _ in range(n):
        for other in (*others, watch):
            other.beat()
        said.append(watch.second())
    return said


def test_who_is_heard_is_not_missed():
    first, *others = three(Service())
    assert seconds(first, others, 3 * PATIENCE) == [None] * 3 * PATIENCE


def test_who_is_silent_is_named_when_patience_is_over():
    first, second, third = three(Service())
    assert seconds(first, [second, third], 3) == [None] * 3
    *before, last = seconds(first, [second], PATIENCE)
    assert before == [None] * (PATIENCE - 1)
    assert last == ("Process 2 is not heard any more: it died or stands still. So process 0 ends too. Go on.")


def test_who_never_came_is_named():
    first, second, _ = three(Service())
    assert "Process 2 is" in seconds(first, [second], PATIENCE + 1)[-1]


def test_the_first_process_is_missed_where_the_service_does_not_answer():
    _, second, _ = three(Service())
    second.beat()
    said = [second.second() for _ in range(PATIENCE + 1)]
    assert said[:-1] == [None] * PATIENCE
    assert "Process 0 is not heard any more" in said[-1]


def test_who_is_done_may_be_silent():
    service = Service()
    first, second, third = three(service)
    seconds(first, [second, third], 1)
    third.__exit__(None, None, None)
    assert seconds(first, [second], 2 * PATIENCE) == [None] * 2 * PATIENCE


def test_who_fails_is_named_at_once():
    service = Service()
    first, second, third = three(service)
    error = ValueError()
    third.__exit__(ValueError, error, None)
    assert "Process 2 ended before the training did, and says why" in seconds(first, [second], 1)[0]


def test_a_failing_process_ends_in_order_where_the_service_is_gone():
    service = Service()
    service.answers = False
    three(service)[1].__exit__(ValueError, ValueError(), None)


def test_an_abort_is_the_first_process_s_end_only_where_it_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        _, second, _ = three(Service(), address)
        assert second.lost() is None
    assert "Process 0 is" in second.lost()


def test_who_was_silent_before_is_to_blame_for_the_end_of_the_first():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    first, second, _ = three(Service(), address)
    seconds(second, [first], SUSPECT + 1)
    assert "Process 2 is" in second.lost()


WAITING = """
import sys, time
from handgrad.engines.xla import processes
joined = processes.join(sys.argv[1], 2, int(sys.argv[2]))
with joined.watched("Go on."):
    joined.largest(0)
    print("together", flush=True)
    time.sleep(100)
"""


def test_a_process_whose_first_one_is_killed_says_so_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, "-c", WAITING, address]
    both = [subprocess.Popen([*command, str(index)], **pipes) for index in range(2)]
    try:
        for process in both:
            while "together" not in process.stdout.readline():
                assert process.poll() is None
        time.sleep(1.5)  # for a beat
        both[0].send_signal(signal.SIGKILL)
        said = both[1].communicate(timeout=60)[0]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[1].returncode == 1, said
    assert "handgrad: Process 0 is not heard any more: it died or stands still. So process 1 ends" in said
