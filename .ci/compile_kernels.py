"""Compile the CPU engine's kernels once, before tests in several processes would each compile them."""

import itertools

import numpy as np

from handgrad.engines import cpu, cpu_weights
from handgrad.engines.texts import CACHES
from handgrad.errors import UserError
from handgrad.kernels import precision
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.training.recipe import RECIPES

for name in ("nano", "gpt2", "llama", "paper", "quick"):
    config = PRESETS[name].replace(context_length=16, n_layers=1, d_model=48, vocab_size=65)
    for each in precision.available():
        cpu.compile_kernels(config, each, lambda kernel: None, RECIPES[name].optimizer_settings)
    cpu.decoding(config, init(config)).read([np.arange(8)])

config = PRESETS["llama"].replace(context_length=16, n_layers=1, d_model=96, n_heads=6, vocab_size=65)
for weights, cache in itertools.product(cpu_weights.PRECISIONS, CACHES):
    try:
        cpu.decoding(config, init(config), precision=weights, cache=cache).read([np.arange(8)])
    except UserError:  # this machine has no such products, or the model no blocks
        continue
