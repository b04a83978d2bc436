"""The CPU engine against PyTorch: the same model, optimizer and batches, side by side on one machine.

The peer is asked in every precision it has, on every machine: two steps say what is far too slow to be its
best, and that is left out. Each of the others is a process that waits for its turn. In every round each
computes once, one after the other, so that whatever else the machine does meets all of them alike; ratios are
taken within a round. Variants that would not fit in memory together come in groups, our engine being in each.
"""

import contextlib
import importlib.util
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from handgrad.benchmark import workload
from handgrad.benchmark.worker import Worker, WorkerError
from handgrad.engines import cpu, fits
from handgrad.errors import UserError, require_known
from handgrad.kernels import precision as precisions
from handgrad.model.config import ModelConfig
from handgrad.model.count import count

PEERS = ("torch",)
PEER_BATCHES = {"nano": (12, 48), "baby": (4, 16, 64), "gpt2": (4,)}
"""Batch sizes at which a peer is asked: its best is not always the recipe's."""
PEER_PRECISIONS = ("float32", "bfloat16")
PROBE_STEPS, SLOWEST = 2, 5.0
"""So many times slower than the peer's fastest in the last step of a probe, and a variant is left out."""
WARM_UP_STEPS, ROUNDS, TURN_SECONDS, MOST_STEPS = 3, 5, 1.0, 50
LIMIT = 300.0
"""Seconds for a probe, a warm-up or a turn, after which a variant is left out."""
MEMORY_SHARE, UNKNOWN_MEMORY = 0.6, 8e9
ENVIRONMENT = {
    # an allocator that keeps its memory, as PyTorch's guide to CPUs advises: glibc's gives large arrays back
    # and pays for their pages again
    "MALLOC_MMAP_THRESHOLD_": "1000000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no compiler processes that outlive the compiling
}


@dataclass(frozen=True)
class Variant:
    """One way to train the model."""

    engine: str
    precision: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.engine}, {self.precision}, batch {self.batch_size}"

    def start(self, config: ModelConfig) -> Worker:
        options = ["--config-json", workload.to_json(config)]
        options += ["--batch", str(self.batch_size), "--precision", self.precision]
        if self.engine == OURS:
            return Worker("handgrad.benchmark.ours", options)
        options += ["--compile"] if self.engine == COMPILED else []
        return Worker("handgrad.benchmark.torch_peer", options, ENVIRONMENT)

    def bytes(self, config: ModelConfig) -> float:
        """Roughly, the memory of its process."""
        if self.engine == OURS:
            return cpu.memory(config, self.batch_size, self.precision).total
        weights = count(config).parameters
        numbers_per_token = 16 * config.n_layers * config.d_model + 3 * config.vocab_size
        return 0.4e9 + 20.0 * weights + 4.0 * self.batch_size * config.context_length * numbers_per_token


OURS, EAGER, COMPILED = "handgrad", "torch eager", "torch compiled"


@dataclass
class Entry:
    """What became of a variant."""

    variant: Variant
    rates: list[float] = field(default_factory=list)
    """Tokens a second, round by round."""
    ratios: list[float] = field(default_factory=list)
    """Ours divided by it, round by round."""
    failure: str | None = None

    @property
    def tokens_per_second(self) -> float | None:
        return None if self.failure or not self.rates else statistics.median(self.rates)

    @property
    def ratio(self) -> float | None:
        return None if self.failure or not self.ratios else statistics.median(self.ratios)


@dataclass(frozen=True)
class Comparison:
    ours: Entry
    peers: tuple[Entry, ...]

    @property
    def ratio(self) -> float | None:
        """Ours divided by the best of theirs; None where none of them ran."""
        return min((entry.ratio for entry in self.peers if entry.ratio is not None), default=None)

    @property
    def entries(self) -> list[Entry]:
        """The fastest first, those that failed last."""
        return sorted([self.ours, *self.peers], key=lambda entry: -(entry.tokens_per_second or 0.0))


def require(peer: str, preset: str) -> None:
    """Raise `UserError` unless there is such a peer here, and it has this preset's model."""
    require_known("peer", peer, PEERS)
    require_known("preset to compare", preset, PEER_BATCHES)
    if importlib.util.find_spec(peer) is None:
        raise UserError("The comparison with PyTorch needs it installed: pip install torch")


def torch_variants(batch_sizes: Sequence[int]) -> list[Variant]:
    """Eager and compiled, in each precision, at each batch size."""
    return [Variant(e, p, b) for b in batch_sizes for p in PEER_PRECISIONS for e in (EAGER, COMPILED)]


def compare(
    config: ModelConfig,
    peers: Sequence[Variant],
    *,
    batch_size: int,
    precision: str = "auto",
    n_steps: int | None = None,
    n_rounds: int = ROUNDS,
    limit: float = LIMIT,
    report: Callable[[str], object] = lambda what: None,
) -> Comparison:
    """Train side by side with `peers`. `n_steps` are those of a turn; by default they fill a second.

    `report` is told what is being done. Raises `UserError` for a precision this machine has not, and where
    our own engine fails.
    """
    cpu.compile_kernels(config, precision, lambda name: report(f"compiling {name}"))
    ours = Entry(Variant(OURS, precisions.name_of(precision), batch_size))
    entries = [Entry(variant) for variant in peers]
    _leave_out_the_slow(config, entries, limit, report)
    for group in _groups(config, ours, [entry for entry in entries if not entry.failure]):
        with contextlib.ExitStack() as stack:
            race = _Race(config, n_steps, limit, report, stack)
            for entry in (ours, *group):
                race.enter(entry)
            for n_round in range(n_rounds):
                race.run_round(f"round {n_round + 1} of {n_rounds}")
            race.take_ratios(ours, group)
    return Comparison(ours, tuple(entries))


def _leave_out_the_slow(
    config: ModelConfig, entries: Sequence[Entry], limit: float, report: Callable[[str], object]
) -> None:
    """Probe each engine in each precision at its smallest batch, alone; what fails or is slow there is left
    out at every batch size."""
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.variant.batch_size):
        kinds.setdefault((entry.variant.engine, entry.variant.precision), []).append(entry)
    rates: dict[tuple[str, str], float] = {}
    for kind, (first, *_) in kinds.items():
        report(f"probing {first.variant}")
        try:
            with first.variant.start(config) as worker:
                *_, last = worker.run(PROBE_STEPS, limit)
            rates[kind] = first.variant.batch_size * config.context_length / last
        except WorkerError as error:
            _fail(kinds[kind], f"in a probe, it {error}")
    for kind, rate in rates.items():
        slower = max(rates.values()) / rate
        if slower > SLOWEST:
            _fail(kinds[kind], f"{slower:.0f} times slower in a probe of {PROBE_STEPS} steps")


class _Race:
    """The variants of one group, alive together."""

    def __init__(
        self,
        config: ModelConfig,
        n_steps: int | None,
        limit: float,
        report: Callable[[str], object],
        stack: contextlib.ExitStack,
    ):
        self.config, self.n_steps, self.limit, self.report = config, n_steps, limit, report
        self._stack = stack
        self._runners: list[tuple[Entry, Worker, int]] = []

    def enter(self, entry: Entry) -> None:
        """Start a variant and warm it up."""
        self.report(f"warming up {entry.variant}")
        worker = self._stack.enter_context(entry.variant.start(self.config))
        try:
            *_, last = worker.run(WARM_UP_STEPS, self.limit)
        except WorkerError as error:
            _fail([entry], f"warming up, it {error}")
            return
        n_steps = self.n_steps or max(1, min(MOST_STEPS, round(TURN_SECONDS / last)))
        self._runners.append((entry, worker, n_steps))

    def run_round(self, name: str) -> None:
        for entry, worker, n_steps in self._runners:
            if entry.failure:
                continue
            self.report(f"{name}: {entry.variant}")
            try:
                seconds = worker.run(n_steps, self.limit)
            except WorkerError as error:
                _fail([entry], f"in {name}, it {error}")
                continue
            tokens = len(seconds) * entry.variant.batch_size * self.config.context_length
            entry.rates.append(tokens / sum(seconds))

    def take_ratios(self, ours: Entry, group: Sequence[Entry]) -> None:
        """Ours to each, round by round; earlier rounds of ours belong to earlier groups."""
        for entry in group:
            if not entry.failure:
                rounds = zip(ours.rates[-len(entry.rates) :], entry.rates, strict=True)
                entry.ratios = [mine / theirs for mine, theirs in rounds]


def _fail(entries: Sequence[Entry], why: str) -> None:
    for entry in entries:
        if entry.variant.engine == OURS:
            raise UserError(
                f"There is nothing to compare with: our own engine failed. {why[0].upper()}{why[1:]}."
            )
        entry.failure = why


def _groups(config: ModelConfig, ours: Entry, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries that fit in memory together, each group with ours: one group at least, be it empty."""
    left = MEMORY_SHARE * (fits.available() or UNKNOWN_MEMORY) - ours.variant.bytes(config)
    group: list[Entry] = []
    for entry in entries:
        if group and sum(e.variant.bytes(config) for e in [*group, entry]) > left:
            yield group
            group = []
        group.append(entry)
    yield group
