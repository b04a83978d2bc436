"""Where the story starts: walking downhill, one neuron that learns, and networks of neurons.

    descent       follow the slope of a surface until there is none
    perceptron    the first learning rule, what it can learn, and a proof where it cannot
    mlp           layers of neurons trained by backpropagation

Nothing here is needed to run a transformer; everything in a transformer's training is here in small.
"""

from handgrad.foundations import descent, mlp, perceptron

__all__ = ["descent", "mlp", "perceptron"]
