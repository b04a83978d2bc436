"""A run of given minutes ends on time whatever its speed, and its schedule ends with it."""

import itertools

import pytest

from handgrad.training import pace
from handgrad.training.checkpoint import Progress
from handgrad.training.pace import Pace
from handgrad.training.recipe import Recipe

TIMED = Recipe(steps=1000, minutes=2.0, eval_every=250, eval_batches=1, batch_size=10)
ALL_WINDOWS = 100


def trained(recipe, durations):
    """The places after every step of a run whose steps take so long, and the run's seconds at its end.

    A window of an evaluation takes 10 ms, and what follows an evaluation 0.5 s.
    """
    progress, places = Progress(), [0.0]
    it = Pace(recipe, progress)
    evaluate(it, recipe.eval_windows)
    for seconds in durations:
        evaluates = it.step_begun()
        progress.seconds += seconds
        it.step_done(seconds)
        it.renew(ALL_WINDOWS)
        places.append(progress.place)
        if evaluates:
            evaluate(it, ALL_WINDOWS if it.is_over else recipe.eval_windows)
        if it.is_over:
            return places, progress.seconds


def evaluate(it, n_windows):
    it.evaluated(n_windows, 0.01 * n_windows, 0.5)
    it.progress.seconds += 0.01 * n_windows + 0.5


@pytest.mark.parametrize(
    "durations",
    [
        itertools.repeat(0.1),
        itertools.repeat(0.03),
        itertools.repeat(0.9),
        itertools.cycle([0.1] * 300 + [0.15] * 300),
        itertools.chain([20.0], itertools.repeat(0.1)),  # something is compiled
        (0.1 + 0.05 * (i % 7) for i in itertools.count()),
    ],
    ids=["as expected", "fast", "slow", "uneven", "a long first step", "jitter"],
)
def test_a_run_of_two_minutes_ends_within_three_seconds_of_them(durations):
    places, seconds = trained(TIMED, durations)
    assert 117.0 < seconds + pace.END_SECONDS < 123.0
    assert places[-1] == TIMED.steps
    assert places == sorted(places)


def test_the_learning_rate_falls_evenly_with_time_in_a_steady_run():
    places, _ = trained(TIMED, itertools.repeat(0.1))
    ways = [b - a for a, b in itertools.pairwise(places)][50:-1]  # once the speed is known
    assert max(ways) < 1.1 * min(ways)


def test_without_minutes_a_step_is_a_place_however_long_it_takes():
    places, _ = trained(TIMED.replace(minutes=None), itertools.cycle([0.1, 5.0]))
    assert places == [float(i) for i in range(1001)]


def test_evaluations_stand_at_places_of_the_schedule():
    it, evaluations = Pace(TIMED, Progress(rate=0.7)), []
    while not it.is_over:
        if it.step_begun():
            evaluations.append(it.progress.place)
    assert [round(place / 250) for place in evaluations] == [1, 2, 3, 4]
    assert all(0 <= place - 250 * i < 0.7 for i, place in enumerate(evaluations, start=1))


def test_how_many_steps_there_will_be_follows_from_what_a_step_is_worth():
    assert Progress(step=30, place=100.0, rate=2.0).expected_steps(500) == 30 + 200
