"""Several processes, on one machine or on many, that `jax.distributed` joins.

Each has devices of its own; a mesh is made of all of them. A process places only its own part of an array,
and reads only its own part of a batch.
"""

import contextlib
import json
from collections.abc import Callable

import jax
import numpy as np
from jax._src.distributed import global_state  # the coordination service has no public name
from jax.experimental import multihost_utils

from handgrad.engines.xla import device
from handgrad.engines.xla.watch import Watch
from handgrad.errors import UserError

FAREWELL = 30
"""Seconds that a process waits for the others when it ends."""

LOCAL_DEVICES = 8
"""As many may a processor play in each process."""


class Joined:
    """This process, and how it learns what the others say."""

    def __init__(self) -> None:
        self.leads = jax.process_index() == 0

    @property
    def mesh(self) -> str:
        """All devices, each with a part of the batch."""
        return f"data={jax.device_count()}"

    def agreed(self, make: Callable[[], str]) -> str:
        """What the first process makes, or the `UserError` that it raises, in every process."""
        said, failure = b"", None
        if self.leads:
            try:
                said = json.dumps({"made": make()}).encode()
            except Exception as error:  # the others wait to be told
                failure = error
                why = str(error) if isinstance(error, UserError) else f"The first process failed: {error!r}."
                said = json.dumps({"error": why}).encode()
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(said))))
        letters = np.frombuffer(said.ljust(length), np.uint8)[:length]
        heard = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(letters))))
        if failure is not None:
            raise failure
        if "error" in heard:
            raise UserError(heard["error"])
        return heard["made"]

    def largest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return int(multihost_utils.process_allgather(np.int32(number)).max())

    def watched(self, again: str) -> contextlib.AbstractContextManager[object]:
        """Within, this process ends where another one died or stands still, and names it."""
        if jax.process_count() == 1:
            return contextlib.nullcontext()
        address = global_state.coordinator_address
        return Watch(global_state.client, jax.process_index(), jax.process_count(), address, again)


def join(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> Joined:
    """Join the others, once in a process and before JAX computes anything.

    `coordinator` is the address of the first process, `index` the number of this one from 0, of `count`. What
    is not given is found where SLURM, Open MPI or Kubernetes started the processes.
    """
    device.prepare(LOCAL_DEVICES)
    try:
        jax.distributed.initialize(coordinator, count, index, shutdown_timeout_seconds=FAREWELL)
    except (ValueError, RuntimeError, IndexError) as error:
        raise UserError(
            f"Processes that train together know the first one's address, how many they are, and each its "
            f"number. Given are {_given(coordinator, count, index)}; JAX says: {str(error).splitlines()[0]} "
            f"Give --coordinator HOST:PORT --processes N --process K, or start them by SLURM, Open MPI or "
            f"Kubernetes."
        ) from error
    return Joined()


def _given(coordinator: str | None, count: int | None, index: int | None) -> str:
    given = {"coordinator": coordinator, "processes": count, "process": index}
    return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None) or "none"
