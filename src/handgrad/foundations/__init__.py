"""Where the story starts: gradient descent, one neuron that learns, and networks of neurons.

    descent       follow the slope of a surface until it is zero
    perceptron    the first learning rule, what it can learn, and a certificate where it cannot
    mlp           layers of neurons trained by backpropagation

A transformer needs none of this to run, but its training is the same on a larger scale.
"""

from handgrad.foundations import descent, mlp, perceptron

__all__ = ["descent", "mlp", "perceptron"]
