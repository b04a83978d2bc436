"""What to try next, and whether a trial is worth its time: Optuna's estimator, and its rule of the median.

The tree-structured Parzen estimator (Bergstra et al., 2011, "Algorithms for hyper-parameter optimization")
draws where good trials lie denser than bad ones. Both answers follow from the trials before, and from the
sweep's seed: nothing else is kept, so that a sweep that was stopped goes on as it would have.
"""

import importlib.util
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from handgrad.errors import UserError
from handgrad.training.sweeps.over import Listed, Over, Range
from handgrad.training.sweeps.record import Trial

if TYPE_CHECKING:
    import optuna

DRAWN = 3
"""One trial of so many is drawn at random, before the estimator has enough to go by."""
COMPARED = 4
"""Trials that a later one is compared with at least."""
FIRST = 3
"""Evaluations of a trial, that of its first weights among them, that are never the last."""


def require() -> None:
    """Raise `UserError` where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            "A sweep takes Optuna, which is not installed. Install it: pip install 'handgrad[sweep]'."
        )


def propose(over: Over, done: Sequence[Trial], n_trials: int, seed: int) -> dict[str, Any]:
    """The options of the trial after those that are `done`, of `n_trials`."""
    import optuna

    sampler = optuna.samplers.TPESampler(
        seed=seed + len(done), n_startup_trials=max(2, n_trials // DRAWN), multivariate=True
    )
    study = _study(over, done, sampler=sampler)
    found = study.ask(_distributions(over)).params
    return {
        name: values.rounded(found[name]) if isinstance(values, Range) else found[name]
        for name, values in over.items()
    }


def is_poor(over: Over, done: Iterable[Trial], trial: Trial) -> bool:
    """Whether a trial's last loss is above the median of what the others had after as many evaluations."""
    import optuna

    pruner = optuna.pruners.MedianPruner(n_startup_trials=COMPARED, n_warmup_steps=FIRST)
    study = _study(over, done, pruner=pruner)
    study.enqueue_trial(trial.options)
    asked = study.ask(_distributions(over))
    for number, loss in enumerate(trial.losses):
        asked.report(loss, number)
    return asked.should_prune()


def _study(over: Over, done: Iterable[Trial], **choices: Any) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(**choices)
    distributions, state = _distributions(over), optuna.trial.TrialState
    for it in done:
        is_finished = it.state == "finished"
        study.add_trial(
            optuna.trial.create_trial(
                # one that failed once it had begun is worse than one stopped later: it counts as stopped
                state=state.COMPLETE if is_finished else state.PRUNED if it.losses else state.FAIL,
                value=it.loss if is_finished else None,
                params=it.options,
                distributions=distributions,
                intermediate_values=dict(enumerate(it.losses)),
            )
        )
    return study


def _distributions(over: Over) -> dict[str, "optuna.distributions.BaseDistribution"]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def distribution(values: Any) -> "optuna.distributions.BaseDistribution":
        if isinstance(values, Listed):
            return CategoricalDistribution(values.values)
        if values.step is None:
            return FloatDistribution(values.low, values.high, log=values.is_log)
        return IntDistribution(int(values.low), int(values.high), log=values.is_log, step=values.step)

    return {name: distribution(values) for name, values in over.items()}
