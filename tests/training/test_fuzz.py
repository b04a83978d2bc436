"""Of some hundred damaged files every one works or is refused in a sentence: see fuzz.py for thousands."""

import pytest

pytest.importorskip("resource", reason="Windows counts no memory this way")

from tests.training import fuzz

N = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with fuzz.surroundings():
        return fuzz.make_run(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.usefixtures("curves")
@pytest.mark.parametrize("name", fuzz.FILES)
def test_every_damaged_file_works_or_is_refused_in_a_sentence(whole, name):
    before = fuzz.peak_memory()
    with fuzz.surroundings():
        outcomes = [outcome for seed in range(N) for outcome in fuzz.attempt(whole, name, seed)]
    assert [outcome for outcome in outcomes if isinstance(outcome, fuzz.Failure)] == []
    assert "refused" in outcomes
    assert fuzz.peak_memory() - before < fuzz.ROOM


def test_the_same_seed_damages_in_the_same_way(whole):
    for name in fuzz.FILES:
        content = (whole / name).read_bytes()
        damaged = [fuzz.damage(name, content, seed) for seed in range(20)]
        assert damaged == [fuzz.damage(name, content, seed) for seed in range(20)]
        assert len(set(damaged)) > 10
