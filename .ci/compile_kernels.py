"""Compile the CPU engine's kernels once, before tests in several processes would each compile them."""

import numpy as np

from handgrad.engines import cpu
from handgrad.kernels import precision
from handgrad.model.config import PRESETS
from handgrad.model.init import init

for name in ("nano", "gpt2", "llama", "paper"):
    config = PRESETS[name].replace(context_length=16, n_layers=1, d_model=48, vocab_size=65)
    for each in precision.available():
        cpu.compile_kernels(config, each, lambda kernel: None)
    cpu.decoding(config, init(config)).read([np.arange(8)])
