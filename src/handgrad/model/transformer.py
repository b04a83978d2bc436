r"""The whole transformer: embedding, positions, L blocks, norm, output head; and the loss it is trained with.

    token ids (B, T) -> embedding, + positions -> block 1 ... block L -> norm -> head -> logits (B, T, V)

$$x_0 = s\,W_{id} + P,\qquad x_l = \operatorname{block}_l(x_{l-1}),\qquad
z = \operatorname{norm}(x_L)\,W_{head}$$

The logits at a position are the scores of what comes next. The loss is the mean cross-entropy, in nats a
token. The backward is the mirror of the forward, written out; a tied embedding is used twice, and its two
gradients are summed where one can see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from handgrad import ops as formulas
from handgrad import parameters as p
from handgrad.model import block
from handgrad.model.block import Block, NormSaved, Past
from handgrad.model.config import ModelConfig
from handgrad.model.inputs import require_batch, require_token_ids
from handgrad.model.ops import LossOp, Ops
from handgrad.shapes import Array, Float, Int, UniformSource


class Saved(NamedTuple):
    """What each op saved: the formulas as said here, an engine's twins their own."""

    embedding: formulas.embedding.Saved
    positions: formulas.learned_position.Saved | formulas.sinusoidal_position.Saved | None
    drop: formulas.dropout.Saved
    blocks: tuple[block.Saved, ...]
    norm: NormSaved | None
    head: formulas.unembedding.Saved | formulas.linear.Saved | None
    """Where there are logits."""


@dataclass(frozen=True)
class Transformer:
    """The model shaped by `config`, computed by `ops`: the formulas, or an engine's twins of them."""

    config: ModelConfig
    ops: Ops = formulas

    def forward(
        self,
        weights: p.Transformer,
        token_ids: Int[Array, "B T"],
        *,
        past: Sequence[Past] | None = None,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T V"], Saved]:
        """Logits for every position. `past`, one pair a layer, holds what came before `token_ids`."""
        require_token_ids(self.config, token_ids, past[0][0].shape[2] if past else 0)
        x, saved = self.hidden(weights, token_ids, past=past, rng=rng)
        logits, head = self.head(x, weights)
        return logits, saved._replace(head=head)

    def head(self, x: Float[Array, "B T D"], weights: p.Transformer) -> tuple[Float[Array, "B T V"], Any]:
        """The scores of what comes next, from the end of the residual stream."""
        if weights.head is None:
            return self.ops.unembedding.forward(x, weights.embedding)
        return self.ops.linear.forward(x, *weights.head)

    def backward(self, dlogits: Float[Array, "B T V"], saved: Saved) -> tuple[p.Transformer]:
        """The gradient of every weight, as a tree of the weights' own type."""
        op = self.ops.unembedding if self.config.tied else self.ops.linear
        dx, *dhead = op.backward(dlogits, saved.head)
        return self.hidden_backward(dx, p.Linear(*dhead), saved)

    def hidden(
        self,
        weights: p.Transformer,
        token_ids: Int[Array, "B T"],
        *,
        past: Sequence[Past] | None = None,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], Saved]:
        """Everything before the head: the residual stream at its end, normalized."""
        ops, config = self.ops, self.config
        offset = past[0][0].shape[2] if past else 0
        scale = config.d_model**0.5 if config.scale_embedding else 1.0
        x, embedding = ops.embedding.forward(weights.embedding, token_ids, scale=scale)
        x, positions = self._add_positions(x, weights, offset)
        x, drop = ops.dropout.forward(x, rate=config.dropout, rng=rng)
        x, blocks = self.layers(x, weights.blocks, past=past, rng=rng)
        norm = None
        if weights.norm is not None:
            x, norm = self.block.norm(x, weights.norm)
        return x, Saved(embedding, positions, drop, blocks, norm, None)

    def hidden_backward(
        self, dx: Float[Array, "B T D"], dhead: p.Linear, saved: Saved
    ) -> tuple[p.Transformer]:
        """The gradient of every weight, from that of the stream's end and of the head's weights."""
        ops = self.ops
        dnorm = dpositions = None
        if saved.norm is not None:
            dx, dnorm = self.block.norm_backward(dx, saved.norm)
        dx, dblocks = self.layers_backward(dx, saved.blocks)
        (dx,) = ops.dropout.backward(dx, saved.drop)
        if self.config.position == "learned":
            dx, dpositions = ops.learned_position.backward(dx, saved.positions)
        elif self.config.position == "sinusoidal":
            (dx,) = ops.sinusoidal_position.backward(dx, saved.positions)
        (dembedding,) = ops.embedding.backward(dx, saved.embedding)
        if self.config.tied:
            dembedding = ops.embedding.join(dembedding, dhead.weight)  # one table, two uses
        head = None if self.config.tied else dhead
        return (p.Transformer(dembedding, dpositions, dblocks, dnorm, head),)

    def layers(
        self,
        x: Float[Array, "B T D"],
        weights: tuple[p.Block, ...],
        *,
        past: Sequence[Past] | None = None,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, "B T D"], tuple[block.Saved, ...]]:
        """All blocks, one after the other."""
        blocks = []
        for layer, block_weights in enumerate(weights):
            one = Block(self.config, self.ops, self.config.turns(layer))
            x, saved = one.forward(x, block_weights, past=past[layer] if past else None, rng=rng)
            blocks.append(saved)
        return x, tuple(blocks)

    def layers_backward(
        self, dx: Float[Array, "B T D"], saved: tuple[block.Saved, ...]
    ) -> tuple[Float[Array, "B T D"], tuple[p.Block, ...]]:
        dblocks: list[p.Block] = []
        for saved_block in reversed(saved):
            dx, dblock = self.block.backward(dx, saved_block)
            dblocks.insert(0, dblock)
        return dx, tuple(dblocks)

    @property
    def block(self) -> Block:
        return Block(self.config, self.ops)

    def _add_positions(self, x: Array, weights: p.Transformer, offset: int) -> tuple[Array, Any]:
        """Sinusoids and learned positions are added here; rotary ones act inside attention."""
        if self.config.position == "learned":
            return self.ops.learned_position.forward(x, weights.positions, offset=offset)
        if self.config.position == "sinusoidal":
            return self.ops.sinusoidal_position.forward(x, offset=offset)
        return x, None


class LossSaved(NamedTuple):
    transformer: Saved
    loss: formulas.next_token_loss.Saved


@dataclass(frozen=True)
class LanguageModel:
    """A transformer and its loss: the function that training descends."""

    transformer: Transformer

    def forward(
        self,
        weights: p.Transformer,
        token_ids: Int[Array, "B T"],
        targets: Int[Array, "B T"],
        *,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, ""], LossSaved]:
        """The mean loss, in nats a token; targets of -1 do not count."""
        require_batch(self.transformer.config, token_ids, targets)
        x, saved = self.transformer.hidden(weights, token_ids, rng=rng)
        loss, saved_loss = self._loss.forward(x, *self._head(weights), targets, tied=self._tied)
        return loss, LossSaved(saved, saved_loss)

    def backward(self, dloss: Float[Array, ""] | float, saved: LossSaved) -> tuple[p.Transformer]:
        dx, *dhead = self._loss.backward(dloss, saved.loss)
        return self.transformer.hidden_backward(dx, p.Linear(*dhead), saved.transformer)

    def loss_and_gradients(
        self,
        dloss: Float[Array, ""] | float,
        weights: p.Transformer,
        token_ids: Int[Array, "B T"],
        targets: Int[Array, "B T"],
        *,
        rng: UniformSource | None = None,
    ) -> tuple[Float[Array, ""], p.Transformer]:
        """Forward and backward at once, for callers who know `dloss` beforehand."""
        require_batch(self.transformer.config, token_ids, targets)
        x, saved = self.transformer.hidden(weights, token_ids, rng=rng)
        loss, dx, *dhead = self._loss.loss_and_gradients(
            dloss, x, *self._head(weights), targets, tied=self._tied
        )
        (gradients,) = self.transformer.hidden_backward(dx, p.Linear(*dhead), saved)
        return loss, gradients

    @property
    def _loss(self) -> LossOp:
        return self.transformer.ops.next_token_loss

    @property
    def _tied(self) -> bool:
        return self.transformer.config.tied

    def _head(self, weights: p.Transformer) -> p.Linear:
        return p.Linear(weights.embedding) if weights.head is None else weights.head
