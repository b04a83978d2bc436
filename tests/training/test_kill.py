"""Kill -9 while a checkpoint is written: the run goes on, and ends as if it had never been killed."""

import multiprocessing
import random
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

import handgrad
from handgrad.formats import atomic
from handgrad.formats.model_folder import LAST

N_KILLS = 10
OPTIONS = {
    "steps": 30, "eval_every": 1, "context_length": 16, "batch_size": 4, "n_layers": 1, "n_heads": 2,
    "d_model": 32, "dropout": 0.1, "eval_batches": 1, "engine": "reference",
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forks nothing")
def test_a_run_killed_ten_times_ends_with_the_weights_of_an_uninterrupted_one(text_file, tmp_path):
    whole = handgrad.train(text_file, out=tmp_path / "whole", **OPTIONS)
    processes = multiprocessing.get_context("forkserver")  # it imports once, for all that are killed
    processes.set_forkserver_preload(["handgrad.training.run", "handgrad.plots.loss_curve"])
    folder = tmp_path / "killed"
    chance = random.Random(0)
    for _ in range(N_KILLS):
        if folder.exists():
            process = processes.Process(target=handgrad.resume, args=(folder,))
        else:
            process = processes.Process(
                target=handgrad.train, args=(text_file,), kwargs=OPTIONS | {"out": folder}
            )
        process.start()
        wait_until(process, (folder / "metrics.jsonl").exists)
        wait_until(process, lambda: any(folder.glob(f".*{atomic.PARTIAL}")))
        time.sleep(chance.uniform(0, 0.005))
        assert process.is_alive()
        process.kill()
        process.join()
    assert handgrad.resume(folder)

    one, other = (load_file(run / LAST) for run in (whole, folder))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert not list(folder.glob(".*"))  # nothing half-written is left


def wait_until(process, happened):
    while not happened():
        assert process.is_alive()
        time.sleep(1e-4)
