"""Processes that train together, one of which is killed or stopped: how the others end, and what is left.

    python benchmarks/failures.py --kills 10 --stops 5          # some ten minutes on two cores

Two processes on this machine train a small model, with a checkpoint now and then. A random one of them gets
the signal after a random time; the time until the other ends is measured, and what it says is looked for the
number of the one that is gone. Then the same command is started again, until the run is done. Its weights
must be those of a run that nothing disturbed, bit for bit.
"""

import argparse
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors.numpy import load_file

from handgrad.training.run import about

LIMIT = 60.0
"""Seconds in which the others are to end."""
STEPS = 400
COMMAND = [
    sys.executable, "-m", "handgrad", "train", "--engine", "xla", "--steps", str(STEPS),
    "--eval-every", "100", "--batch-size", "4", "--n-layers", "1", "--d-model", "16", "--n-heads", "2",
    "--context-length", "8", "--dropout", "0.1", "--set", "eval_batches=1",
]  # fmt: skip
CHECKPOINTS = ("best.safetensors", "last.safetensors")


def started(out: Path, log: Path) -> list[subprocess.Popen[bytes]]:
    """Two processes that train the run in `out`, or go on with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    joined = ["--out", str(out), "--distributed", "--coordinator", address, "--processes", "2", "--process"]
    processes = []
    for number in range(2):
        with (log / f"{number}.txt").open("wb") as printed:
            command = [*COMMAND, *joined, str(number)]
            processes.append(subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT))
    return processes


def disturbed(
    out: Path, log: Path, kind: signal.Signals, seconds_of_training: float
) -> tuple[int, float, bool]:
    """Which process got the signal, the seconds until the other one ended, and whether it named the first."""
    processes = started(out, log)
    try:
        while not (out / "last.safetensors").exists():
            time.sleep(0.2)
        time.sleep(random.uniform(0.0, 0.7 * seconds_of_training))  # before it is done
        victim = random.randrange(2)
        processes[victim].send_signal(kind)
        began = time.monotonic()
        processes[1 - victim].wait(timeout=4 * LIMIT)
        seconds = time.monotonic() - began
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = (log / f"{1 - victim}.txt").read_text(errors="replace")
    return victim, seconds, f"handgrad: Process {victim} is not heard any more" in said


def _arrays(checkpoint: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in load_file(checkpoint).items()}


def finished(out: Path, log: Path) -> None:
    """Have the same command end the run."""
    codes = [process.wait() for process in started(out, log)]
    if any(codes):
        sys.exit((log / "0.txt").read_text(errors="replace"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    kinds = [signal.SIGKILL] * options.kills + [signal.SIGSTOP] * options.stops
    with tempfile.TemporaryDirectory() as temporary:
        log = Path(temporary)
        calm, out = log / "calm", log / "run"
        finished(calm, log)
        length = about(calm).progress.seconds
        print("| signal | process | the other ended after | named it | same weights at the end |")
        print("| --- | --- | --- | --- | --- |")
        times, well = [], 0
        for kind in kinds:
            shutil.rmtree(out, ignore_errors=True)
            victim, seconds, named = disturbed(out, log, kind, length)
            finished(out, log)
            same = all(_arrays(out / name) == _arrays(calm / name) for name in CHECKPOINTS)
            print(f"| {kind.name} | {victim} | {seconds:.1f} s | {named} | {same} |", flush=True)
            times.append(seconds)
            well += named and same and seconds < LIMIT
        print(f"\n{well} of {len(kinds)} as they should; median {statistics.median(times):.1f} s.")
    sys.exit(well < len(kinds))


if __name__ == "__main__":
    main()
