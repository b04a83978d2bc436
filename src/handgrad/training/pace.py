"""A run of given minutes ends on time, with its schedule at its end, however fast the machine turns out.

A recipe's schedule has `steps` places: warm-up, decay and evaluations stand at places. Where only steps are
given, each goes one place on. Where minutes are given too, `steps` is what was expected to fit; as the run
measures how long steps and evaluations take, each step goes on by

$$\\frac{\\text{places left}}{\\text{seconds left}\\;/\\;\\text{seconds a step}}$$

places, so that the last place and the last second come together. What a step was worth is kept in each
checkpoint.
"""

import statistics
from collections import deque
from dataclasses import dataclass, field

from handgrad.training.checkpoint import LEAST_RATE, Progress
from handgrad.training.recipe import Recipe

RENEWED = 50
"""How often in a run the worth of a step is measured anew,"""
LEAST_SECONDS = 1.0
"""but not before this."""
DIAGNOSED = 100
"""Places between two diagnoses at the least: one takes less than two steps do."""
FEW, MANY = 5, 50
"""Durations of the newest steps whose median counts."""
END_SECONDS = 1.5
"""For what comes after training: the picture of the curve."""


@dataclass
class Pace:
    """How far each step takes the run of `progress` along its schedule."""

    recipe: Recipe
    progress: Progress
    _durations: deque[float] = field(default_factory=lambda: deque(maxlen=MANY))
    _renewed: float = 0.0  # the run's seconds then
    _of_a_window: float = 0.0  # seconds, in an evaluation
    _besides: float = 0.0  # seconds of an evaluation for what follows it: saving, and a sample
    _of_a_diagnosis: float = 0.0  # seconds

    def step_begun(self) -> bool:
        """Go on by one step. Whether an evaluation follows it."""
        before, self.progress.place = self.progress.place, self._next
        self.progress.step += 1
        return self._evaluates(before, self.progress.place)

    @property
    def is_diagnosed(self) -> bool:
        """Whether the next step is looked at layer by layer: some of those before an evaluation are."""
        place, every = self._next, self.recipe.eval_every
        is_time = place // every % -(-DIAGNOSED // every) == 0
        return place >= self.recipe.steps or (is_time and self._evaluates(self.progress.place, place))

    @property
    def _next(self) -> float:
        """The place after the next step."""
        progress, last = self.progress, float(self.recipe.steps)
        place = min(progress.place + progress.rate, last)
        return last if last - place < progress.rate / 2 else place

    def _evaluates(self, before: float, place: float) -> bool:
        """Whether an evaluation follows the step from one place to another."""
        every = self.recipe.eval_every
        return place >= self.recipe.steps or place // every > before // every

    @property
    def is_over(self) -> bool:
        """Whether there are no steps left."""
        return self.progress.place >= self.recipe.steps

    def step_done(self, seconds: float) -> None:
        """A step has taken so long."""
        self._durations.append(seconds)

    def evaluated(self, n_windows: int, seconds: float, besides: float) -> None:
        """An evaluation of so many windows has taken `seconds`, and what follows it `besides`."""
        self._of_a_window, self._besides = seconds / n_windows, besides

    def diagnosed(self, seconds: float) -> None:
        """A diagnosis has taken so long."""
        self._of_a_diagnosis = seconds

    def renew(self, all_windows: int) -> None:
        """Measure anew what a step is worth, where minutes are given and it is time to."""
        if self.recipe.minutes is None or self.is_over or len(self._durations) < FEW:
            return
        seconds, whole = self.progress.seconds, 60.0 * self.recipe.minutes
        if seconds - self._renewed < max(LEAST_SECONDS, whole / RENEWED):
            return
        self._renewed = seconds
        left = whole - seconds - self._evaluations(all_windows) - END_SECONDS
        n_steps = max(1.0, left / statistics.median(self._durations))
        rate = (self.recipe.steps - self.progress.place) / n_steps
        self.progress.rate = max(rate, LEAST_RATE)

    def _evaluations(self, all_windows: int) -> float:
        """Seconds for the evaluations to come, and at most for diagnoses."""
        recipe = self.recipe
        n = (recipe.steps - 1) // recipe.eval_every - int(self.progress.place // recipe.eval_every)
        small = self._besides + self._of_a_window * min(recipe.eval_windows, all_windows)
        diagnoses = self._of_a_diagnosis * (n + 1)
        return n * small + self._besides + self._of_a_window * all_windows + diagnoses
