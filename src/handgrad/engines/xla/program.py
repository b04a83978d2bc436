"""What is compiled: the loss, the gradient, and one step of training, as functions of arrays alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handgrad.engines.engine import OptimizerSettings
from handgrad.engines.xla import device
from handgrad.engines.xla import weights as stacking
from handgrad.engines.xla.layers import Layers, Scanned
from handgrad.engines.xla.placement import ALONE, Placement
from handgrad.engines.xla.random import Keyed
from handgrad.engines.xla.twins import Fused, Twins
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw, muon
from handgrad.shapes import Array


class Batch(NamedTuple):
    """A batch in N parts along a first axis: each is computed on its own, and the gradients are summed."""

    token_ids: Any
    targets: Any
    shares: Any
    """The share of the batch's counted targets in each part."""
    keys: Any
    """Dropout's; None drops nothing."""


class Carried(NamedTuple):
    """What a step hands to the next, on the device: three trees of the same shapes, and a count."""

    weights: Any
    mean: Any
    square: Any
    step: Any


class _Updated(NamedTuple):
    """One weight after a step."""

    weight: Any
    mean: Any
    square: Any


class Program(NamedTuple):
    """All that decides what is compiled."""

    config: ModelConfig
    settings: OptimizerSettings
    fused: Fused | None
    dtype: Any
    """What products are computed in."""
    layers: Layers = "scanned"
    placement: Placement = ALONE

    def compiled(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """`function`, a method of this program, compiled."""
        return device.compiled(function, self.dtype, **options)

    @property
    def model(self) -> LanguageModel:
        twins = Twins(self.fused, self.placement)
        if self.layers == "separate":
            return LanguageModel(Transformer(self.config, twins))
        again = self.layers == "rematerialized"
        return LanguageModel(Scanned(self.config, twins, rematerialize=again, placement=self.placement))

    @property
    def stacked(self) -> bool:
        """Whether the blocks' weights are stacked."""
        return self.layers != "separate"

    def loss(self, weights: Any, batch: Batch) -> Array:
        """The batch's mean loss."""
        weights = self._narrowed(weights)

        def run(total: Array, part: Batch) -> tuple[Array, None]:
            loss, _ = self.model.forward(weights, part.token_ids, part.targets)
            return total + part.shares * loss, None

        return self.placement.whole(lax.scan(run, jnp.zeros((), batch.shares.dtype), batch)[0])

    def logits(self, weights: Any, token_ids: Array) -> Array:
        """The scores of what comes next."""
        logits, _ = self.model.transformer.forward(self._narrowed(weights), token_ids)
        return self.placement.whole(logits.astype(jnp.float32))

    def loss_and_gradients(self, weights: Any, batch: Batch) -> tuple[Array, Any]:
        """The batch's mean loss and its gradient: by the formulas, from the last op to the first."""
        narrow = self._narrowed(weights)

        def one(part: Batch) -> tuple[Array, Any]:
            rng = None if part.keys is None else Keyed(part.keys)
            loss, gradients = self.model.loss_and_gradients(
                part.shares, narrow, part.token_ids, part.targets, rng=rng
            )
            gradients = jax.tree.map(lambda g, w: g.astype(w.dtype), gradients, weights)
            return part.shares * loss, self.placement.summed(gradients)

        first, rest = (jax.tree.map(lambda a, which=which: a[which], batch) for which in (0, slice(1, None)))
        if not len(batch.shares) > 1:  # nothing to sum
            return one(first)
        return lax.scan(lambda sum, part: (jax.tree.map(jnp.add, sum, one(part)), None), one(first), rest)[0]

    def step(
        self, carried: Carried, batch: Batch, learning_rate: Array, limits: Array
    ) -> tuple[Carried, Array]:
        """One step of the optimizer. Returns what is carried on, and the loss and the gradient's norm.

        `limits` are the largest of both with which anything is changed.
        """
        loss, gradients = self.loss_and_gradients(carried.weights, batch)
        norm = sum(jnp.sum(g * g) for g in jax.tree.leaves(gradients)) ** 0.5
        numbers = jnp.stack([loss, norm])
        applies = jnp.all(jnp.isfinite(numbers) & (numbers <= limits))
        shorten = self.settings.max_gradient_norm / jnp.maximum(norm, self.settings.max_gradient_norm)

        def update(w: Array, g: Array, mean: Array, square: Array, decay: float, by_muon: bool) -> _Updated:
            before = _Updated(w, mean, square)
            run = self._by_muon if by_muon else self._by_adamw
            after = run(before, shorten * g, carried.step, learning_rate, decay)
            return _Updated(*(jnp.where(applies, *pair) for pair in zip(after, before, strict=True)))

        kinds = stacking.updates(self.config, self.settings, stacked=self.stacked)
        updated = jax.tree.map(update, carried.weights, gradients, carried.mean, carried.square, *kinds)
        outer, inner = jax.tree.structure(carried.weights), jax.tree.structure(_Updated(0, 0, 0))
        weights, mean, square = map(self.placement.kept, jax.tree.transpose(outer, inner, updated))
        count, numbers = self.placement.whole((carried.step + applies, numbers))
        return Carried(weights, mean, square, count), numbers

    def _by_adamw(
        self, before: _Updated, gradient: Array, step: Array, learning_rate: Array, decay: float
    ) -> _Updated:
        w, mean, square = before
        new, moments = adamw.update(
            w,
            gradient,
            adamw.State(mean, square, step.astype(w.dtype)),
            learning_rate=learning_rate,
            beta1=self.settings.beta1,
            beta2=self.settings.beta2,
            weight_decay=decay,
        )
        return _Updated(new, moments.mean, moments.square)

    def _by_muon(
        self, before: _Updated, gradient: Array, step: Array, learning_rate: Array, decay: float
    ) -> _Updated:
        """Products are computed as the model's."""
        w, velocity, square = before
        new, moved = muon.update(
            w,
            gradient,
            muon.State(velocity),
            learning_rate=learning_rate * self.settings.matrix_rate,
            beta=self.settings.momentum,
            weight_decay=decay,
        )
        return _Updated(new, moved.velocity, square)

    def _narrowed(self, weights: Any) -> Any:
        """Weights as products read them."""
        return self.placement.used(stacking.narrowed(weights, self.dtype))
