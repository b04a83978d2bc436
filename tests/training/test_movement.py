"""Why a weight moves: what is told of one weight is what training does with it."""

import shutil

import pytest

import handgrad
from handgrad import tree
from handgrad.errors import UserError
from handgrad.training import loop
from handgrad.training.movement import why

OPTIONS = {
    "preset": "quick", "n_layers": 1, "d_model": 16, "n_heads": 2, "batch_size": 3, "context_length": 16,
    "engine": "reference", "steps": 6, "eval_every": 1, "keep": 3,
}  # fmt: skip


@pytest.fixture(scope="module", params=["adamw", "muon"])
def run(request, tmp_path_factory):
    """A run of six steps, and the same as it was after five."""
    folder = tmp_path_factory.mktemp("movement")
    (folder / "book.txt").write_text("To be, or not to be, that is the question.\n" * 40)
    options = {**OPTIONS, "optimizer": request.param}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAMPLE_TOKENS", 1)
        handgrad.train(folder / "book.txt", out=folder / "after", report=lambda event: None, **options)
    shutil.copytree(folder / "after", folder / "before")
    (folder / "before" / "last.safetensors").unlink()
    (folder / "before" / "checkpoints" / "5.safetensors").rename(folder / "before" / "last.safetensors")
    return folder / "before", folder / "after", request.param


@pytest.mark.parametrize(
    ("parameter", "index"), [("blocks.0.attention.query.weight", (3, 4)), ("embedding", (2, 5))]
)
def test_the_update_is_the_one_that_the_next_step_makes(run, parameter, index):
    before, after, optimizer = run
    old, new = (
        float(dict(tree.named_leaves(handgrad.load(folder, "last.safetensors").weights))[parameter][index])
        for folder in (before, after)
    )
    told = why(before, parameter, index)
    assert told.step == 6
    assert told.value == old
    assert told.update == pytest.approx(new - old, rel=1e-3)
    assert told.optimizer == ("adamw" if parameter == "embedding" else optimizer)
    assert told.measured == pytest.approx(told.effect, rel=0.2, abs=3e-6)


def test_the_texts_of_the_batch_push_as_much_as_its_gradient_in_all_the_strongest_first(run):
    told = why(run[0], "blocks.0.feed_forward.up.weight", (1, 2))
    pushes = [push.share for push in told.pushed_by]
    assert sum(pushes) == pytest.approx(told.gradient, rel=1e-6)
    assert [abs(push) for push in pushes] == sorted(map(abs, pushes), reverse=True)
    assert all(len(push.text) == 16 for push in told.pushed_by)


@pytest.mark.parametrize(
    ("parameter", "index", "says"),
    [
        ("embeding", (0, 0), "Did you mean embedding"),
        ("embedding", (0,), "the shape"),
        ("embedding", (999, 0), "the shape"),
    ],
)
def test_a_weight_that_there_is_not_is_said(run, parameter, index, says):
    with pytest.raises(UserError, match=says):
        why(run[0], parameter, index)
