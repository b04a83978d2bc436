"""The ops' names and signatures, computed by kernels: what a model is handed in place of `handgrad.ops`.

A twin differs from its op in these ways.

- Its weights are `Weight`s: packed for the kernels, and paired with the buffer that their gradient is added
  into. What its backward returns for a weight is that buffer: the sum so far.
- Its arrays come from an arena and live until that is reset. What a backward returns lies in `passing`,
  the second arena of the workspace, and lives until the next twin begins.
- What only products read is kept as they read it, an operand (see `rounding`).
- Twins overwrite: residual.forward writes into h, a norm's backward into dy (each says which). So memory
  stays small, and in the processor's cache; and `saved` serves one backward.
- Random numbers are counted: backward draws them again.
- `attention` takes heads side by side, (B, T, H K), and no twin takes a mask.
"""

from handgrad.kernels.twins.activation import ActivationTwin
from handgrad.kernels.twins.attention import AttentionTwin
from handgrad.kernels.twins.dropout import DropoutTwin
from handgrad.kernels.twins.embedding import EmbeddingTwin
from handgrad.kernels.twins.feed_forward import FeedForwardTwin
from handgrad.kernels.twins.layer_norm import LayerNormTwin
from handgrad.kernels.twins.learned_position import LearnedPositionTwin
from handgrad.kernels.twins.linear import LinearTwin
from handgrad.kernels.twins.multi_head_attention import MultiHeadAttentionTwin
from handgrad.kernels.twins.next_token_loss import NextTokenLossTwin
from handgrad.kernels.twins.residual import ResidualTwin
from handgrad.kernels.twins.rms_norm import RMSNormTwin
from handgrad.kernels.twins.sinusoidal_position import SinusoidalPositionTwin
from handgrad.kernels.twins.unembedding import UnembeddingTwin
from handgrad.kernels.workspace import Workspace


class Twins:
    """All twins of one worker, by the ops' names."""

    def __init__(self, workspace: Workspace, norms_before_products: bool = False):
        """`norms_before_products`: only products read what a norm gives, as in a pre-norm transformer."""
        self.linear = LinearTwin(workspace)
        self.layer_norm = LayerNormTwin(workspace, norms_before_products)
        self.rms_norm = RMSNormTwin(workspace, norms_before_products)
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
