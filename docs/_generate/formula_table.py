"""Every formula, by section: its name, which lesson derives it, where it is written.

How it reads is not said here: it is taken from the docstring of its source.
"""

from typing import NamedTuple


class Formula(NamedTuple):
    name: str
    lesson: int
    heading: str
    """The section of the lesson that derives it."""
    sources: tuple[str, ...]
    """`module:name` below `handgrad`; the first one's docstring, or its module's, has the formula."""
    parts: tuple[str, ...] = ()
    """The first characters of each equation to show. Empty: the docstring's first row."""
    written_in: str = ""
    """Where the formula is written, if not in `sources[0]`."""


def op(name: str) -> tuple[str, str]:
    """An op's two functions."""
    return f"ops.{name}:forward", f"ops.{name}:backward"


SECTIONS: dict[str, tuple[Formula, ...]] = {
    "Where the story starts": (
        Formula(
            "Derivative, measured",
            2,
            "Measuring on both sides",
            ("foundations.descent:central_differences",),
            parts=(r"\frac{\partial f}",),
        ),
        Formula(
            "The proof of a gradient",
            2,
            "From slope to gradient",
            ("gradcheck:check", "gradcheck:check_elements"),
        ),
        Formula("Broadcasting, undone", 1, "Undoing a broadcast: the first gradient", ("shapes:sum_to",)),
        Formula(
            "Two valleys and a saddle",
            3,
            "Where the ground is level",
            ("foundations.descent:two_valleys", "foundations.descent:two_valleys_gradient"),
        ),
        Formula(
            "Perceptron",
            4,
            "The rule",
            ("foundations.perceptron:train",),
            parts=(r"w \leftarrow", r"b\leftarrow"),
        ),
        Formula(
            "AND, and the other Boolean functions",
            4,
            "Score and threshold",
            ("foundations.perceptron:predict", "foundations.perceptron:boolean_functions"),
        ),
        Formula(
            "Why not XOR",
            4,
            "Why not XOR",
            ("foundations.perceptron:common_point", "foundations.perceptron:certificate_sum"),
        ),
    ),
    "Learning": (
        Formula(
            "Gradient descent",
            3,
            "One step",
            ("optim.gradient_descent:update", "foundations.descent:minimize"),
        ),
        Formula("Gradient descent with clipped steps", 3, "The walk", ("foundations.descent:clipped_step",)),
        Formula("Momentum", 3, "Momentum", ("optim.momentum:update",)),
        Formula(
            "Adam", 3, "Adam", ("optim.adam:update",), parts=("m ", "s ", "W ", r"\hat m =", r"\hat s =")
        ),
        Formula("AdamW", 13, "A step: AdamW", ("optim.adamw:update",)),
        Formula("Muon", 13, "A step for matrices: Muon", ("optim.muon:update",)),
        Formula(
            "A matrix made orthogonal",
            13,
            "A step for matrices: Muon",
            ("optim.muon:orthogonalized",),
            parts=(r"\mathrm{orth}", "p(X)"),
            written_in="optim.muon:update",
        ),
        Formula("Clipping", 13, "Two precautions", ("optim.clip:by_global_norm",)),
        Formula("Learning-rate schedules", 13, "Two precautions", ("optim.schedule:share",)),
    ),
    "Forward and backward propagation": (
        Formula("Affine layer", 5, "The same in matrices", op("linear")),
        Formula("Network of layers", 5, "A network in formulas", op("linear_stack")),
        Formula(
            "Low-rank adaptation (LoRA)",
            5,
            "The same in matrices",
            op("lora"),
            parts=("W' =", "dA =", "dB ="),
        ),
        Formula(
            "Backpropagation",
            5,
            "Backpropagation by hand",
            ("foundations.mlp:gradients",),
            parts=("dx =", "dW =", "db ="),
            written_in="ops.linear:backward",
        ),
        Formula("The whole model", 12, "The whole model", ("model.transformer:Transformer",)),
    ),
    "Activations": (
        Formula("Sigmoid", 6, "The sigmoid", op("sigmoid")),
        Formula("Tanh", 6, "The hyperbolic tangent", op("tanh")),
        Formula("ReLU", 6, "The ReLU, and its kink", op("relu")),
        Formula("Leaky ReLU", 6, "Units that die, and the leak that saves them", op("leaky_relu")),
        Formula("Parametric ReLU", 6, "A slope that is learned", op("prelu"), parts=("f(x) =", r"d\alpha =")),
        Formula("Squared ReLU", 6, "The bend rounded off", op("relu_squared")),
        Formula("GELU", 6, "The bend rounded off", op("gelu")),
        Formula("GELU by tanh", 6, "The bend rounded off", op("gelu_tanh")),
        Formula("Error function", 6, "The bend rounded off", op("erf")),
        Formula("SiLU", 6, "The bend rounded off", op("silu")),
        Formula("An activation by name", 6, "The bend rounded off", op("activation")),
        Formula("Gated unit", 6, "The bend rounded off", op("gated")),
        Formula("Softmax", 6, "Softmax: scores become shares", op("softmax")),
        Formula("Softmax, its Jacobian", 6, "Its Jacobian", ("ops.softmax:jacobian",)),
    ),
    "Losses": (
        Formula("Mean squared error", 7, "Squared error, from normal noise", op("mse")),
        Formula("Cross-entropy", 7, "Cross-entropy, from the likelihood of classes", op("cross_entropy")),
        Formula(
            "Softmax and cross-entropy",
            7,
            "Softmax and cross-entropy in one",
            op("softmax_cross_entropy"),
            parts=("L =", "dz_n =", r"\text{for counted rows"),
        ),
        Formula("Loss of the next token", 13, "What a loss is worth", op("next_token_loss")),
    ),
    "Positions": (
        Formula("Embedding", 8, "The gradient goes home", op("embedding"), parts=("y_n =", "dW =")),
        Formula("Sinusoidal positions", 8, "Waves of many lengths", op("sinusoidal_position")),
        Formula("Learned positions", 8, "Learned positions", op("learned_position")),
        Formula("Rotary positions", 8, "Turning queries and keys", op("rope")),
    ),
    "Attention": (
        Formula("Self-attention", 9, "A soft lookup", ("ops.attention:forward",)),
        Formula(
            "Self-attention, its gradients",
            9,
            "Backward, step by step",
            ("ops.attention:backward",),
            parts=("dV =", "dP =", "dS =", "dQ =", "dK ="),
        ),
        Formula("Multi-head attention", 10, "Forward", ("ops.multi_head_attention:forward",)),
        Formula(
            "Multi-head attention, its gradients",
            10,
            "Backward",
            ("ops.multi_head_attention:backward",),
            parts=("dX =",),
        ),
    ),
    "Normalization and residuals": (
        Formula(
            "Layer normalization",
            11,
            "Its backward, step by step",
            op("layer_norm"),
            parts=(r"\mu =", "r =", r"\hat x =", "y =", "g =", "dx ="),
        ),
        Formula("RMS normalization", 11, "Half of it: RMS norm", op("rms_norm")),
        Formula("Residual", 11, "The residual connection", op("residual")),
        Formula("Dropout", 10, "Masks, and a query that may look at nothing", op("dropout")),
    ),
    "The feed-forward block": (
        Formula("Feed-forward block", 12, "The feed-forward block", op("feed_forward")),
        Formula("Unembedding", 12, "One table, two gradients", op("unembedding")),
        Formula("A block", 12, "A block", ("model.block:Block",)),
    ),
    "Writing": (
        Formula(
            "Temperature, top-k, top-p",
            14,
            "Temperature",
            ("generation.sampling:distribution", "generation.sampling:draw"),
        ),
    ),
}
