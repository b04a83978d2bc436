"""Kill -9 while a checkpoint is written: the run goes on, and ends as if it had never been killed."""

import random
import subprocess
import sys
import time

import numpy as np

from handgrad.formats import atomic, tensors
from handgrad.formats.model_folder import LAST

N_KILLS = 10


def test_a_run_killed_ten_times_ends_with_the_weights_of_an_uninterrupted_one(text_file, tmp_path):
    options = [
        "--steps", "100", "--eval-every", "1", "--context-length", "16", "--batch-size", "4",
        "--n-layers", "1", "--n-heads", "2", "--d-model", "64", "--dropout", "0.1", "--set", "eval_batches=1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "handgrad", "train"]
    subprocess.run(
        [*command, text_file, "--out", tmp_path / "whole", *options], check=True, capture_output=True
    )

    folder = tmp_path / "killed"
    chance = random.Random(0)
    kills, begin = 0, [*command, text_file, "--out", folder, *options]
    while kills < N_KILLS:
        resume = [*command, "--resume", "--out", folder]
        now = resume if folder.exists() else begin
        process = subprocess.Popen(now, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        while process.poll() is None and not process.stdout.readline().startswith(b"step"):
            pass  # until it trains
        while process.poll() is None and not any(folder.glob(f".*{atomic.PARTIAL}")):
            pass  # until it writes
        time.sleep(chance.uniform(0, 0.005))
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        process.kill()
        process.communicate()
        kills += 1
    subprocess.run([*command, "--resume", "--out", folder], check=True, capture_output=True)

    whole, killed = (tensors.read(tmp_path / name / LAST)[0] for name in ("whole", "killed"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, killed[name], err_msg=name)
    assert not list(folder.glob(".*"))  # nothing half-written is left
