"""Every formula, by section: its name, how it reads, which lesson derives it, where it is written."""

from typing import NamedTuple


class Formula(NamedTuple):
    name: str
    latex: str
    lesson: int
    heading: str
    """The section of the lesson that derives it."""
    sources: tuple[str, ...]
    """`module:name` below `handgrad`."""


def op(name: str) -> tuple[str, str]:
    """An op's two functions."""
    return f"ops.{name}:forward", f"ops.{name}:backward"


SECTIONS: dict[str, tuple[Formula, ...]] = {
    "Where the story starts": (
        Formula(
            "Derivative, measured",
            r"f'(x) \approx \frac{f(x+h)-f(x-h)}{2h}",
            2,
            "Measuring on both sides",
            ("foundations.descent:central_differences",),
        ),
        Formula(
            "The proof of a gradient",
            r"\langle dy, Jv\rangle = \langle J^\top dy, v\rangle",
            2,
            "From slope to gradient",
            ("gradcheck:check", "gradcheck:check_elements"),
        ),
        Formula(
            "Broadcasting, undone",
            r"dx = \sum_{\text{copies}} dy",
            1,
            "Undoing a broadcast: the first gradient",
            ("shapes:sum_to",),
        ),
        Formula(
            "Two valleys and a saddle",
            r"x^4 + x^2y^2 - y^2 + y^4 + 6",
            3,
            "Where the ground is level",
            ("foundations.descent:two_valleys", "foundations.descent:two_valleys_gradient"),
        ),
        Formula(
            "Perceptron",
            r"w \leftarrow w + \eta\,(t - y)\,x",
            4,
            "The rule",
            ("foundations.perceptron:train",),
        ),
        Formula(
            "AND, and the other Boolean functions",
            r"y = [\,w_1 A + w_2 B + b > 0\,]",
            4,
            "Score and threshold",
            ("foundations.perceptron:boolean_functions", "foundations.perceptron:predict"),
        ),
        Formula(
            "Why not XOR",
            r"\sum_{t_n=1}\alpha_n x_n = \sum_{t_n=0}\alpha_n x_n",
            4,
            "Why not XOR",
            ("foundations.perceptron:certificate_sum", "foundations.perceptron:common_point"),
        ),
    ),
    "Learning": (
        Formula(
            "Gradient descent",
            r"\theta \leftarrow \theta - \eta\,g",
            3,
            "One step",
            ("optim.gradient_descent:update", "foundations.descent:minimize"),
        ),
        Formula(
            "Gradient descent with clipped steps",
            r"x \leftarrow x - \frac{g}{\max(1/\eta, |g|_1)}",
            3,
            "The walk",
            ("foundations.descent:clipped_step",),
        ),
        Formula("Momentum", r"m \leftarrow \beta m + g", 3, "Momentum", ("optim.momentum:update",)),
        Formula(
            "Adam",
            r"\theta \leftarrow \theta - \eta\,\frac{\hat m}{\sqrt{\hat v}+\epsilon}",
            3,
            "Adam",
            ("optim.adam:update",),
        ),
        Formula(
            "AdamW",
            r"\theta \leftarrow (1-\eta\lambda)\,\theta - \dots",
            13,
            "A step: AdamW",
            ("optim.adamw:update",),
        ),
        Formula(
            "Clipping",
            r"g \leftarrow g\,\min(1, c/|g|)",
            13,
            "Two precautions",
            ("optim.clip:by_global_norm",),
        ),
        Formula(
            "Warm-up and cosine", r"\tfrac12(1+\cos\pi p)", 13, "Two precautions", ("optim.schedule:share",)
        ),
    ),
    "Forward and backward propagation": (
        Formula("Affine layer", r"Y = XW + b", 5, "The same in matrices", op("linear")),
        Formula(
            "Network of layers",
            r"a^{(l)} = f(a^{(l-1)}W^{(l)}+b^{(l)})",
            5,
            "A network in formulas",
            op("linear_stack"),
        ),
        Formula(
            "Backpropagation",
            r"dX = dY\,W^\top,\ dW = X^\top dY",
            5,
            "Backpropagation by hand",
            ("foundations.mlp:gradients",),
        ),
        Formula(
            "The whole model, backward",
            r"L \to dW",
            12,
            "The whole model",
            ("model.transformer:Transformer",),
        ),
    ),
    "Activations": (
        Formula("Sigmoid", r"\sigma(x) = \frac{1}{1+e^{-x}}", 6, "The sigmoid", op("sigmoid")),
        Formula("Tanh", r"\tanh x", 6, "The hyperbolic tangent", op("tanh")),
        Formula("ReLU", r"\max(0, x)", 6, "The ReLU, and its kink", op("relu")),
        Formula(
            "Leaky ReLU",
            r"\max(x, \alpha x)",
            6,
            "Units that die, and the leak that saves them",
            op("leaky_relu"),
        ),
        Formula(
            "Parametric ReLU", r"\max(0, x) + \alpha \min(0, x)", 6, "A slope that is learned", op("prelu")
        ),
        Formula("Squared ReLU", r"\max(0, x)^2", 6, "The bend rounded off", op("relu_squared")),
        Formula("GELU", r"x\,\Phi(x)", 6, "The bend rounded off", op("gelu")),
        Formula(
            "GELU by tanh",
            r"\tfrac{x}{2}\big(1+\tanh(\dots)\big)",
            6,
            "The bend rounded off",
            op("gelu_tanh"),
        ),
        Formula("Error function", r"\operatorname{erf} x", 6, "The bend rounded off", op("erf")),
        Formula("SiLU", r"x\,\sigma(x)", 6, "The bend rounded off", op("silu")),
        Formula("An activation by name", r"f(x)", 6, "The bend rounded off", op("activation")),
        Formula("Gated unit", r"f(g) * u", 6, "The bend rounded off", op("gated")),
        Formula(
            "Softmax",
            r"f_i = \frac{e^{x_i}}{\sum_k e^{x_k}}",
            6,
            "Softmax: scores become shares",
            op("softmax"),
        ),
        Formula(
            "Softmax, its Jacobian",
            r"J_{ij} = f_i(\delta_{ij}-f_j)",
            6,
            "Its Jacobian",
            ("ops.softmax:jacobian",),
        ),
    ),
    "Losses": (
        Formula(
            "Mean squared error", r"\langle (y-t)^2\rangle", 7, "Squared error, from normal noise", op("mse")
        ),
        Formula(
            "Cross-entropy",
            r"-\sum_i t_i \ln p_i",
            7,
            "Cross-entropy, from the likelihood of classes",
            op("cross_entropy"),
        ),
        Formula(
            "Softmax and cross-entropy",
            r"dx = \operatorname{softmax}(x) - t",
            7,
            "Softmax and cross-entropy in one",
            op("softmax_cross_entropy"),
        ),
        Formula("Loss of the next token", r"-\ln p_{t+1}", 13, "What a loss is worth", op("next_token_loss")),
    ),
    "Positions": (
        Formula("Embedding", r"x = E_{\text{id}}", 8, "The gradient goes home", op("embedding")),
        Formula(
            "Sinusoidal positions",
            r"\sin(t\,\omega_i),\ \cos(t\,\omega_i)",
            8,
            "Waves of many lengths",
            op("sinusoidal_position"),
        ),
        Formula("Learned positions", r"x_t + P_t", 8, "Learned positions", op("learned_position")),
        Formula(
            "Rotary positions",
            r"\langle R_t q, R_s k\rangle = \langle R_{t-s}\,q, k\rangle",
            8,
            "Turning queries and keys",
            op("rope"),
        ),
    ),
    "Attention": (
        Formula(
            "Self-attention",
            r"\operatorname{softmax}\Big(\frac{QK^\top}{\sqrt{d_{head}}}\Big)V",
            9,
            "A soft lookup",
            ("ops.attention:forward",),
        ),
        Formula(
            "Self-attention, its gradients",
            r"dS = P * (dP - \operatorname{rowsum}(dP * P))",
            9,
            "Backward, step by step",
            ("ops.attention:backward",),
        ),
        Formula(
            "Multi-head attention",
            r"\operatorname{concat}(\operatorname{head}_1, \dots)\,W_O",
            10,
            "Forward",
            ("ops.multi_head_attention:forward",),
        ),
        Formula(
            "Multi-head attention, its gradients",
            r"dX = dQ\,W_Q^\top + dK\,W_K^\top + dV\,W_V^\top",
            10,
            "Backward",
            ("ops.multi_head_attention:backward",),
        ),
    ),
    "Normalization and residuals": (
        Formula(
            "Layer normalization",
            r"\gamma\,\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}}+\beta",
            11,
            "Its backward, step by step",
            op("layer_norm"),
        ),
        Formula(
            "RMS normalization",
            r"\gamma\,\frac{x}{\sqrt{\langle x^2\rangle+\epsilon}}",
            11,
            "Half of it: RMS norm",
            op("rms_norm"),
        ),
        Formula("Residual", r"y = x + f(x)", 11, "The residual connection", op("residual")),
        Formula(
            "Dropout", r"\frac{m * x}{1-p}", 10, "Masks, and a query that may look at nothing", op("dropout")
        ),
    ),
    "The feed-forward block": (
        Formula(
            "Feed-forward block", r"f(xW_1+b_1)\,W_2+b_2", 12, "The feed-forward block", op("feed_forward")
        ),
        Formula("Unembedding", r"\text{logits} = xE^\top", 12, "One table, two gradients", op("unembedding")),
        Formula(
            "A block", r"x + \operatorname{attention}(\dots) + \dots", 12, "A block", ("model.block:Block",)
        ),
    ),
    "Writing": (
        Formula(
            "Temperature, top-k, top-p",
            r"p_i \propto e^{x_i/T}",
            14,
            "Temperature",
            ("generation.sampling:distribution", "generation.sampling:draw"),
        ),
    ),
}
