"""The record's script trains with the command, and measures what it left."""

import pytest
import speedrun


def test_a_row_holds_the_losses_size_and_cost_of_a_run(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{i} times {j} is {i * j}.\n" for i in range(1, 20) for j in range(1, 20)))
    settings = ["d_model=32", "n_heads=1", "n_layers=1", "context_length=16", "eval_batches=1"]
    result = speedrun.trained(text, 0.03, 1, settings)
    assert 0.0 < result.strided < result.loss < 3.0
    assert result.parameters > 10_000
    assert result.tokens % 256 == 0
    assert result.flop == pytest.approx(result.tokens * 6 * result.parameters, rel=0.2)
    assert speedrun.row("0.03", result).count("|") == speedrun.HEAD.splitlines()[0].count("|")
