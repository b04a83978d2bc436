"""Gradient descent and its descendants, clipping, and learning-rate schedules: one file, one formula.

    state = optimizer.init(weights)
    weights, state = optimizer.update(weights, gradient, state, learning_rate=..., **settings)

`weights` is any array: two coordinates on a surface, or the flat buffer of a whole transformer.
"""

from handgrad.optim import adam, adamw, clip, gradient_descent, momentum, muon, schedule

__all__ = ["adam", "adamw", "clip", "gradient_descent", "momentum", "muon", "schedule"]

for _optimizer in (gradient_descent, momentum, adam, adamw, muon):  # so that help() and ? show the formula
    _optimizer.update.__doc__ = _optimizer.__doc__
