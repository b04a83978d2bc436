"""The ops that a transformer calls, by name and form: what an engine must have a twin of.

`handgrad.ops`, the formulas themselves, fits; so does any object with these attributes. A test records what
every preset calls and compares it with this list.
"""

from typing import Any, Protocol, runtime_checkable

from handgrad.gradcheck import Op


@runtime_checkable
class JoiningOp(Op, Protocol):
    """An op whose gradient meets another on its way back."""

    def join(self, dx: Any, dh: Any) -> Any:
        """The sum of both."""


@runtime_checkable
class LossOp(Op, Protocol):
    """A loss that an engine may compute together with its gradient."""

    def loss_and_gradients(self, dloss: Any, *inputs: Any, **settings: Any) -> tuple[Any, ...]:
        """The loss, then the gradient of each float input."""


@runtime_checkable
class Ops(Protocol):
    """All ops that a transformer calls."""

    @property
    def dropout(self) -> Op: ...
    @property
    def embedding(self) -> JoiningOp: ...
    @property
    def feed_forward(self) -> Op: ...
    @property
    def layer_norm(self) -> Op: ...
    @property
    def learned_position(self) -> Op: ...
    @property
    def linear(self) -> Op: ...
    @property
    def multi_head_attention(self) -> Op: ...
    @property
    def next_token_loss(self) -> LossOp: ...
    @property
    def residual(self) -> JoiningOp: ...
    @property
    def rms_norm(self) -> Op: ...
    @property
    def sinusoidal_position(self) -> Op: ...
    @property
    def unembedding(self) -> Op: ...


NAMES: tuple[str, ...] = tuple(name for name in vars(Ops) if not name.startswith("_"))
"""The names of all of them."""
