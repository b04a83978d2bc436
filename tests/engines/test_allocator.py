"""Memory that is kept: what was used once costs nothing the next time, in any thread."""

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

def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.empty(1 << 20, np.uint8) for _ in range(1100)]  # more than a gigabyte in all
    for array in arrays:
        array.fill(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

for _ in range(2):
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not allocator.keep_freed(), reason="memory is kept where there is glibc"
)
def test_memory_that_was_freed_is_not_fetched_again():
    program = [sys.executable, "-c", PROGRAM]
    first, again = map(int, subprocess.run(program, capture_output=True, check=True).stdout.split())
    if first < 8:
        pytest.skip("this system hands out memory in pages too large to count")
    assert again < first / 4
