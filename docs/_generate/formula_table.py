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
        Formula("Broadcasting, undone", 2, "Undoing a broadcast", ("shapes:sum_to",)),
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
        Formula("AdamW", 15, "A step: AdamW", ("optim.adamw:update",)),
        Formula("Muon", 15, "A step for matrices: Muon", ("optim.muon:update",)),
        Formula(
            "A matrix made orthogonal",
            15,
            "A step for matrices: Muon",
            ("optim.muon:orthogonalized",),
            parts=(r"\mathrm{orth}", "p(X)"),
            written_in="optim.muon:update",
        ),
        Formula("Clipping", 15, "Two precautions", ("optim.clip:by_global_norm",)),
        Formula("Learning-rate schedules", 15, "Two precautions", ("optim.schedule:share",)),
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
        Formula("The whole model", 14, "The whole model", ("model.transformer:Transformer",)),
    ),
    "Activations": (
        Formula("Sigmoid", 7, "The sigmoid", op("sigmoid")),
        Formula("Tanh", 7, "The hyperbolic tangent", op("tanh")),
        Formula("ReLU", 7, "The ReLU, and its kink", op("relu")),
        Formula("Leaky ReLU", 7, "Units that die, and the leak that saves them", op("leaky_relu")),
        Formula("Parametric ReLU", 7, "A slope that is learned", op("prelu"), parts=("f(x) =", r"d\alpha =")),
        Formula("Squared ReLU", 7, "The bend rounded off", op("relu_squared")),
        Formula("GELU", 7, "The bend rounded off", op("gelu")),
        Formula("GELU by tanh", 7, "The bend rounded off", op("gelu_tanh")),
        Formula("Error function", 7, "The bend rounded off", op("erf")),
        Formula("SiLU", 7, "The bend rounded off", op("silu")),
        Formula("An activation by name", 7, "The bend rounded off", op("activation")),
        Formula("Gated unit", 7, "The bend rounded off", op("gated")),
        Formula("Softmax", 7, "Softmax: scores become shares", op("softmax")),
        Formula("Softmax, its Jacobian", 7, "Its Jacobian", ("ops.softmax:jacobian",)),
    ),
    "Losses": (
        Formula("Mean squared error", 8, "Squared error, from normal noise", op("mse")),
        Formula("Cross-entropy", 8, "Cross-entropy, from the likelihood of classes", op("cross_entropy")),
        Formula(
            "Softmax and cross-entropy",
            8,
            "Softmax and cross-entropy in one",
            op("softmax_cross_entropy"),
            parts=("L =", "dz_n =", r"\text{for counted rows"),
        ),
        Formula("Loss of the next token", 15, "What a loss is worth", op("next_token_loss")),
    ),
    "Positions": (
        Formula("Embedding", 10, "The gradient goes home", op("embedding"), parts=("y_n =", "dW =")),
        Formula("Sinusoidal positions", 10, "Waves of many lengths", op("sinusoidal_position")),
        Formula("Learned positions", 10, "Learned positions", op("learned_position")),
        Formula("Rotary positions", 10, "Turning queries and keys", op("rope")),
    ),
    "Attention": (
        Formula("Self-attention", 11, "A soft lookup", ("ops.attention:forward",)),
        Formula(
            "Self-attention, its gradients",
            11,
            "Backward, step by step",
            ("ops.attention:backward",),
            parts=("dV =", "dP =", "dS =", "dQ =", "dK ="),
        ),
        Formula("Multi-head attention", 12, "Forward", ("ops.multi_head_attention:forward",)),
        Formula(
            "Multi-head attention, its gradients",
            12,
            "Backward",
            ("ops.multi_head_attention:backward",),
            parts=("dX =",),
        ),
    ),
    "Normalization and residuals": (
        Formula(
            "Layer normalization",
            13,
            "Its backward, step by step",
            op("layer_norm"),
            parts=(r"\mu =", "r =", r"\hat x =", "y =", "g =", "dx ="),
        ),
        Formula("RMS normalization", 13, "Half of it: RMS norm", op("rms_norm")),
        Formula("Residual", 13, "The residual connection", op("residual")),
        Formula("Dropout", 12, "Masks, and a query that may look at nothing", op("dropout")),
    ),
    "The feed-forward block": (
        Formula("Feed-forward block", 14, "The feed-forward block", op("feed_forward")),
        Formula("Unembedding", 14, "One table, two gradients", op("unembedding")),
        Formula("A block", 14, "A block", ("model.block:Block",)),
    ),
    "Writing": (
        Formula(
            "Temperature, top-k, top-p",
            16,
            "Temperature",
            ("generation.sampling:distribution", "generation.sampling:draw"),
        ),
    ),
}
