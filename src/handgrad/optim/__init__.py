"""Gradient descent and its descendants, clipping, and learning-rate schedules: one file, one formula.

    state = optimizer.init(weights)
    weights, state = optimizer.update(weights, gradient, state, learning_rate=..., **settings)

`weights` is any array: two coordinates on a surface, or the flat buffer of a whole transformer.
"""

from handgrad.optim import adam, adamw, clip, gradient_descent, momentum, schedule

__all__ = ["adam", "adamw", "clip", "gradient_descent", "momentum", "schedule"]
