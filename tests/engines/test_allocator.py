"""Memory that is kept: what was touched once costs nothing the next time, in any thread."""

import subprocess
import sys

import pytest

from handgrad.engines import allocator

PROGRAM = """
import resource, threading
import numpy as np
from handgrad.engines import allocator

allocator.keep_freed()
allocator.share_freed()
allocator.touch({n_bytes})

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(1 << 27, np.uint8).fill(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=use)
thread.start()
thread.join()
"""


def faults(n_bytes: int) -> int:
    """How often a thread's first 128 MB have to be fetched from the system, after so much was touched."""
    program = PROGRAM.format(n_bytes=n_bytes)
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not allocator.keep_freed(), reason="memory is kept where there is glibc"
)
def test_memory_that_was_touched_is_not_fetched_again():
    untouched, touched = faults(0), faults(1 << 28)
    if untouched < 8:
        pytest.skip("this system hands out memory in pages too large to count")
    assert touched < untouched / 4
