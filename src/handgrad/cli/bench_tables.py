"""What `handgrad bench` prints: tables for people, dictionaries for JSON."""

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from handgrad.model.config import ModelConfig
from handgrad.model.count import count

if TYPE_CHECKING:  # who only asks for help should not wait for Numba
    from handgrad.benchmark.against import Comparison, Entry
    from handgrad.benchmark.measurement import Measurement
    from handgrad.benchmark.profile import Row
    from handgrad.kernels.peaks import Peaks, Rate

GIGA = 1e9
NOTHING = "-"
PEAKS_MEANT = (
    "Where matrices are multiplied: GFLOP/s, and their share of the peak of one core's multiply-adds of the "
    "kind named. Elsewhere: GB/s, and their share of its memory's, which arrays in the cache may exceed."
)


def print_measurement(console: Console, about: dict[str, Any], measured: "Measurement") -> None:
    """The machine's peaks, the kernels of a step, and the speed of steps."""
    _print_head(console, about)
    console.print(_peaks_table(measured.peaks, measured.n_cores), "")
    console.print(_kernels_table(measured))
    console.print(PEAKS_MEANT, style="dim", end="\n\n")
    console.print(
        f"{measured.tokens_per_second:,.0f} tokens a second on all cores: "
        f"{1000 * measured.seconds:,.1f} ms a step of {measured.tokens:,} tokens, "
        f"{measured.operations_per_second / GIGA:,.0f} GFLOP/s in {measured.precision}, "
        f"{measured.of_peak:.0%} of the peak.",
        style="bold",
    )


def measurement_json(measured: "Measurement") -> dict[str, Any]:
    """One object, its seconds, bytes and operations those of one step, and its rates those of a second."""
    return {
        "n_cores": measured.n_cores,
        "precision": measured.precision,
        "batch_size": measured.batch_size,
        "peaks": dataclasses.asdict(measured.peaks),
        "kernels": [
            {
                **dataclasses.asdict(row),
                "peak": row.peak(measured.peaks),
                "of_peak": row.of_peak(measured.peaks),
            }
            for row in measured.profile.rows
        ],
        "one_thread_seconds": measured.profile.seconds,
        "seconds": measured.seconds,
        "tokens_per_second": measured.tokens_per_second,
        "operations_per_second": measured.operations_per_second,
        "of_peak": measured.of_peak,
    }


def print_comparison(console: Console, about: dict[str, Any], compared: "Comparison") -> None:
    """All variants, the fastest first, and how many times the best of theirs ours is as fast."""
    _print_head(console, about)
    table = Table(box=None, pad_edge=False)
    for name in ("", "precision"):
        table.add_column(name)
    for name in ("batch", "tokens/s", "slowest", "fastest", "ours is"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in compared.entries:
        table.add_row(*_entry_cells(entry), style="bold" if entry is compared.ours else None)
    console.print(table, "")
    for entry in compared.entries:
        if entry.failure:
            console.print(f"Left out: {entry.variant}: {entry.failure}.")
    verdict = "None of theirs ran."
    if compared.ratio is not None:
        verdict = f"{compared.ours.variant.engine} is {_times(compared.ratio)} the best of theirs."
    console.print(verdict, style="bold")


def comparison_json(compared: "Comparison") -> dict[str, Any]:
    """One object; rates are in tokens a second."""
    return {"ratio": compared.ratio, "variants": [_entry_json(entry) for entry in compared.entries]}


def _print_head(console: Console, about: dict[str, Any]) -> None:
    model = about["model"]
    parameters = count(ModelConfig(**model)).parameters
    rows = {
        about["preset"]: f"{parameters:,} parameters, {model['n_layers']} layers, {model['d_model']} wide",
        "text": f"random, context {model['context_length']}, vocabulary {model['vocab_size']:,}; "
        f"dropout {model['dropout']:g}",
        "machine": about["machine"],
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in rows.items():
        table.add_row(title, text)
    console.print(table, "")


def _peaks_table(peaks: "Peaks", n_cores: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("peaks, measured")
    for name in ("one core", f"{n_cores} cores", ""):
        table.add_column(name, justify="left" if not name else "right")
    rows: list[tuple[str, Rate | None, str]] = [
        ("float32 multiply-adds", peaks.float32, "GFLOP/s"),
        ("bfloat16 on AMX tiles", peaks.bfloat16, "GFLOP/s"),
        ("int16 multiply-adds", peaks.int16, "GOP/s"),
        ("triad in the cache", peaks.cache, "GB/s"),
        ("triad in memory", peaks.memory, "GB/s"),
    ]
    for name, rate, unit in rows:
        if rate is not None:
            table.add_row(name, _giga(rate.one_core), _giga(rate.all_cores), unit)
    return table


def _kernels_table(measured: "Measurement") -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("a step in one thread", overflow="fold")
    for name in ("calls", "ms", "share", "GFLOP/s\nor GB/s", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for row in measured.profile.rows:
        table.add_row(*_kernel_cells(row, measured.peaks))
    table.add_row("all", "", _milliseconds(measured.profile.seconds), "100%", style="bold")
    return table


def _kernel_cells(row: "Row", peaks: "Peaks") -> list[str]:
    share, rate = row.of_peak(peaks), (row.operations or row.bytes) / row.seconds
    return [
        row.kernel,
        f"{row.calls:,.0f}" if row.calls else NOTHING,
        _milliseconds(row.seconds),
        f"{row.share:.1%}",
        NOTHING if share is None else _giga(rate),
        NOTHING if share is None else f"{share:.0%}",
        row.peak(peaks) or "",
    ]


def _entry_cells(entry: "Entry") -> list[str]:
    variant, rate = entry.variant, entry.tokens_per_second
    rates = (
        [NOTHING] * 3 if rate is None else [f"{r:,.0f}" for r in (rate, min(entry.rates), max(entry.rates))]
    )
    ratio = NOTHING if entry.ratio is None else _times(entry.ratio)
    return [variant.engine, variant.precision, str(variant.batch_size), *rates, ratio]


def _entry_json(entry: "Entry") -> dict[str, Any]:
    return {
        **dataclasses.asdict(entry.variant),
        "tokens_per_second": entry.tokens_per_second,
        "rounds": entry.rates,
        "ratio": entry.ratio,
        "failure": entry.failure,
    }


def _milliseconds(seconds: float) -> str:
    """In five characters, up to 100 s."""
    milliseconds = 1000 * seconds
    return f"{milliseconds:,.{2 if milliseconds < 100 else 1 if milliseconds < 1000 else 0}f}"


def _giga(rate: float) -> str:
    return f"{rate / GIGA:,.1f}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} x"
