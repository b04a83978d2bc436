"""The ops' names and signatures, computed by kernels: what a model is handed in place of `handgrad.ops`.

A twin takes four liberties. Its weights are `Weight`s, packed for the kernels and paired with the buffer
their gradient is added into, so what its backward returns for them has been summed already. Its arrays come
from an arena and live until that is reset. Where an array has served its purpose its place is taken, so that
memory stays small and in the cache: a residual's sum takes the place of the layer's output, a gradient that
of its input or of the gradient it was made from; `saved` therefore serves one backward. And its random
numbers are counted: backward draws them again.
"""

from handgrad.kernels.twins.formulas import (
    ActivationTwin,
    DropoutTwin,
    EmbeddingTwin,
    LearnedPositionTwin,
    LinearTwin,
    NormTwin,
    ResidualTwin,
    SinusoidalPositionTwin,
    UnembeddingTwin,
)
from handgrad.kernels.twins.layers import (
    AttentionTwin,
    FeedForwardTwin,
    MultiHeadAttentionTwin,
    NextTokenLossTwin,
)
from handgrad.kernels.workspace import Workspace


class Twins:
    """All twins of one thread, by the ops' names."""

    def __init__(self, workspace: Workspace):
        self.linear = LinearTwin(workspace)
        self.layer_norm = NormTwin(workspace, centred=True)
        self.rms_norm = NormTwin(workspace, centred=False)
        self.residual = ResidualTwin(workspace)
        self.dropout = DropoutTwin(workspace)
        self.embedding = EmbeddingTwin(workspace)
        self.unembedding = UnembeddingTwin(workspace)
        self.learned_position = LearnedPositionTwin(workspace)
        self.sinusoidal_position = SinusoidalPositionTwin(workspace)
        self.activation = ActivationTwin(workspace)
        self.feed_forward = FeedForwardTwin(workspace)
        self.attention = AttentionTwin(workspace)
        self.multi_head_attention = MultiHeadAttentionTwin(workspace)
        self.next_token_loss = NextTokenLossTwin(workspace)
