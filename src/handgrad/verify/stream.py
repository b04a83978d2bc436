"""The loss of a model of which some weights are moved, from the first layer on in which any is."""

import re

import numpy as np

from handgrad import ops
from handgrad import parameters as p
from handgrad.model.block import Block
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import Transformer
from handgrad.verify.directions import Direction, moved
from handgrad.verify.texts import Texts

LAYER = re.compile(r"blocks\.(\d+)\.")


class Stream:
    """The residual stream before each layer: what moves in a layer leaves all before it as it was.

    Arrays are moved when their layer is computed, so that no second copy of the weights is needed.
    """

    def __init__(self, config: ModelConfig, weights: p.Transformer, texts: Texts):
        self.transformer, self.weights, self.texts = Transformer(config), weights, texts
        x = self._enter({}, 0.0)
        self.before = [x]
        for layer in range(config.n_layers):
            x = self._layer(x, layer, {}, 0.0)
            self.before.append(x)

    def loss(self, directions: dict[str, Direction], by: float) -> float:
        """The loss where all that has a direction is `by` further on."""
        first = min(self._reached(name) for name in directions) if directions else len(self.weights.blocks)
        x = self._enter(directions, by) if first < 0 else self.before[first]
        for layer in range(max(0, first), len(self.weights.blocks)):
            x = self._layer(x, layer, directions, by)
        return self._leave(x, directions, by)

    def _reached(self, name: str) -> int:
        """The first layer that an array takes part in; -1 for what enters the stream."""
        if name in ("embedding", "positions"):
            return -1
        layer = LAYER.match(name)
        return int(layer[1]) if layer else len(self.weights.blocks)

    def _enter(self, directions: dict[str, Direction], by: float) -> np.ndarray:
        """The stream before the first layer: that of the same model without layers."""
        entrance = p.Transformer(self.weights.embedding, self.weights.positions, (), None, None)
        return self.transformer.hidden(moved(entrance, directions, "", by), self.texts.token_ids)[0]

    def _layer(self, x: np.ndarray, layer: int, directions: dict[str, Direction], by: float) -> np.ndarray:
        block = moved(self.weights.blocks[layer], directions, f"blocks.{layer}", by)
        config = self.transformer.config
        return Block(config, turned=config.turns(layer)).forward(x, block)[0]

    def _leave(self, x: np.ndarray, directions: dict[str, Direction], by: float) -> float:
        weights = self.weights
        if weights.norm is not None:
            x, _ = self.transformer.block.norm(x, moved(weights.norm, directions, "norm", by))
        if weights.head is None:
            head = p.Linear(moved(weights.embedding, directions, "embedding", by))
        else:
            head = moved(weights.head, directions, "head", by)
        return float(ops.next_token_loss.forward(x, *head, self.texts.targets, tied=weights.head is None)[0])
