"""sweep.png: what each option is worth."""

from pathlib import Path

from handgrad.formats import atomic
from handgrad.training.curves import drawable
from handgrad.training.sweeps.over import Over
from handgrad.training.sweeps.record import Record

PICTURE = "sweep.png"


def draw(folder: Path, record: Record, values: Over) -> None:
    """Draw the losses of the trials against each option; nothing where there are none yet."""
    with drawable(f"The sweep is saved. Unset MPLBACKEND, and then: handgrad sweep --resume --out {folder}"):
        from handgrad.plots import sweep as plot

    trials = [it for it in record.trials if it.state in ("finished", "stopped early") and it.loss is not None]
    if not trials:
        return
    panels = [plot.Panel(name, [it.options[name] for it in trials], it.is_log) for name, it in values.items()]
    losses = [it.loss for it in trials if it.loss is not None]
    figure = plot.draw(panels, losses, [it.state == "finished" for it in trials])
    atomic.write(folder / PICTURE, lambda partial: figure.savefig(partial, format="png"))
