"""What is saved for a backward can be handed on: its type names its parts, and it holds only numbers."""

from typing import Any

from handgrad import ops, tree
from handgrad.model import block, transformer


def leaves(value: Any) -> list[Any]:
    """Everything that `value` holds, arrays or not."""
    if isinstance(value, tuple | list):
        return [leaf for child in value for leaf in leaves(child)]
    return [value]


def test_what_is_saved_can_leave_a_compiled_function(op, inputs):
    """JAX lets arrays, numbers and None out of a function it compiles, and no string."""
    _, saved = op.forward(**inputs)
    others = [leaf for leaf in leaves(saved) if not tree.is_array(leaf)]
    assert all(leaf is None or isinstance(leaf, int | float) for leaf in others)


def test_every_field_of_what_is_saved_has_a_type():
    types = [*(op.Saved for op in ops.ALL.values()), block.Saved, transformer.Saved, transformer.LossSaved]
    assert not [saved for saved in types if Any in saved.__annotations__.values()]
