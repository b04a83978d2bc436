"""Small models of every kind, in float64, in which nothing is small by chance."""

import numpy as np

from handgrad import tree
from handgrad.formats.model_folder import Model
from handgrad.model.cases import BLOCKS, SMALL, small
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer.characters import CharacterTokenizer

CONFIGS = {
    **{name: small(config) for name, config in PRESETS.items()},
    **{name: ModelConfig(**{**SMALL, **choices}) for name, choices in BLOCKS.items()},
}
LETTERS = CharacterTokenizer("abcdefg")


def weights_of(config, seed=1):
    rng = np.random.default_rng(seed)
    return tree.map(lambda w: w + 0.3 * rng.normal(size=w.shape), init(config, rng, np.float64))


def model_of(name="block_gated"):
    config = CONFIGS[name].replace(dropout=0.0)
    return Model(config, weights_of(config), LETTERS)
