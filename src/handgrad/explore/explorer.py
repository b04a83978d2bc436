"""What the page asks, answered by the library: a model, its checkpoints, and the traces asked for last."""

import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import handgrad
from handgrad.data import files
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.explore import arrays, formulas
from handgrad.explore.bodies import (
    Ablate,
    Attribute,
    Draw,
    EditBody,
    Neuron,
    Patch,
    Question,
    ScoreBody,
    Shares,
    Why,
)
from handgrad.formats import sources
from handgrad.formats.model_folder import BEST, CHECKPOINTS, CONFIG, LAST, SAFETENSORS, Model
from handgrad.generation import sampling
from handgrad.generation.sampling import Sampling
from handgrad.generation.writer import require_tokenizer
from handgrad.model.count import count
from handgrad.ops import softmax
from handgrad.trace import (
    Trace,
    ablate,
    attribute,
    explain_score,
    in_words,
    patch,
    prediction,
    runs,
    scale,
    shares,
    sites,
    trace,
    zero,
)  # fmt: skip
from handgrad.trace import text as texts
from handgrad.trace.edits import Edit, together
from handgrad.trace.lens import largest, read
from handgrad.trace.neurons import strongest
from handgrad.trace.runs import Report
from handgrad.training import material, run_config
from handgrad.training.movement import why

HELD = 6
"""Traces that are held,"""
MODELS = 2
"""and checkpoints."""
HOLD = 2 << 30
"""The bytes of blocks' insides that are held of the trace asked for last: at most an eighth of the memory."""
TURN = 0.001
"""Seconds in which another thread takes its turn."""
CANDIDATES = 20
BEGINNING = 32
"""Tokens of a run's text that the page begins with."""
Json = dict[str, Any]


class ForgottenError(Exception):
    """A trace that is held no longer, or never was: ask anew."""


class Explorer:
    """One model. Its functions are called from several threads.

    Traces are computed one after the other, and so are experiments of many runs, beside them: who looks on
    meanwhile does not wait for an experiment, and what was computed is there at once.
    """

    def __init__(self, source: str, example: str = ""):
        """`example` is the text that the page begins with, of a run by default its own validation text's."""
        self.source, self._example = source, example
        self._held = threading.RLock()  # models and traces that are there
        self._computing = threading.RLock()
        self._experiment = threading.Lock()
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._model(None)  # refused now, if it must be

    @property
    def model(self) -> Model:
        """As it is now: a run that trains writes better ones."""
        return self._model(None)

    @property
    def folder(self) -> Path | None:
        """The run's, where the model is one."""
        path = Path(self.source)
        return path if path.is_dir() and files.exists(path / CONFIG) and files.exists(path / LAST) else None

    def about(self) -> Json:
        """The model, and all of its sites."""
        config = self.model.config
        described = [{**site._asdict(), "op": formulas.op(site.name, config)} for site in sites.of(config)]
        return {
            "name": self.source,
            "version": handgrad.__version__,
            "parameters": count(config).parameters,
            "config": {name: value for name, value in vars(config).items() if _is_plain(value)},
            "vocab_size": config.vocab_size,
            "context_length": config.context_length,
            "n_layers": config.n_layers,
            "n_heads": config.n_heads,
            "kv_heads": config.kv_heads,
            "d_model": config.d_model,
            "d_ff": config.ff_width,
            "has_tokenizer": self.model.tokenizer is not None,
            "has_run": self.folder is not None,
            "stream": sites.stream(config),
            "sites": described,
            "checkpoints": self.checkpoints(),
            "example": self._example or self._beginning(),
        }

    def _beginning(self) -> str:
        """Of the run's validation text; empty where the model is no run."""
        if self.folder is None or self.model.tokenizer is None:
            return ""
        config = run_config.read(self.folder)
        tokens = material.read(self.folder, self.model.tokenizer, config.layout).validation.tokens
        return self.model.tokenizer.decode(tokens[: min(BEGINNING, config.model.context_length - 1)])

    def checkpoints(self) -> list[str]:
        """Those of a run, by the names that a question may have."""
        if self.folder is None:
            return []
        steps = [path.stem for path in (self.folder / CHECKPOINTS).glob(f"*{SAFETENSORS}")]
        numbers = sorted((step for step in steps if step.isdecimal()), key=int)
        return [*(["best"] if files.exists(self.folder / BEST) else []), "last", *numbers]

    def ask(self, question: Question) -> Json:
        """Run a text through the model. The same question has the same id."""
        of_model = self._version(question.checkpoint)
        key = hashlib.sha256(f"{of_model} {question.model_dump_json()}".encode()).hexdigest()[:16]
        made = self._known(key)
        if made is None:
            with self._computing:
                made = self._known(key) or self._hold(key, self._trace(question))
        return _described(key, made)

    def statistics(self, key: str, *, gradient: bool) -> Json:
        """Of every site: its smallest and largest number, mean, and root mean square."""
        found = {}
        for name in self._found(key).names:
            with self._computing:  # for each anew: between two, others have their turn
                made = self._found(key)
                found[name] = arrays.statistics(made.gradient(name) if gradient else made.value(name))
            time.sleep(TURN)
        return found

    def array(self, key: str, site: str, what: arrays.What, index: str) -> bytes:
        """Part of what stands at a site."""
        with self._computing:
            return arrays.packed(self._found(key), site, what, index)

    def next(self, body: Draw) -> Json:
        """What may come next, before and after the settings of sampling."""
        made = self._found(body.id)
        logits = made.logits[-1]
        before, _ = softmax.forward(logits.astype(np.float64))
        after = sampling.distribution(logits, _sampling(body))
        kept = after > 0
        best = np.argsort(-before, kind="stable")[: body.n]
        entropy = -float(np.sum(after[kept] * np.log(after[kept])))
        candidates = [
            {
                **named,
                "prob_before": named["prob"],
                "prob": float(after[named["id"]]),
                "logit": float(logits[named["id"]]),
                "kept": bool(kept[named["id"]]),
            }
            for named in _named(made.model, before, best)
        ]
        return {"candidates": candidates, "entropy": entropy, "kept": int(kept.sum())}

    def sample(self, body: Draw) -> Json:
        """One token, drawn."""
        made = self._found(body.id)
        probs = sampling.distribution(made.logits[-1], _sampling(body))
        token_id = sampling.draw(probs, np.random.default_rng(body.seed))
        return {"token": texts.word(made.model, token_id), "id": token_id}

    def attribute(self, body: Attribute, report: Report) -> Json:
        """What each token counts for."""
        with self._asked(body.id) as asked:
            found = attribute(**asked, method=body.method, site=body.site, report=report)
        return arrays_of(found, "by_token", "result", "baseline", "missing", "tokens")

    def ablate(self, body: Ablate, report: Report) -> Json:
        """What is missing when a part is switched off."""
        with self._asked(body.id) as asked:
            found = ablate(**asked, each=body.each, by=body.by, layers=body.layers, report=report)
        return arrays_of(found, "result", "without", "effect")

    def patch(self, body: Patch, report: Report) -> Json:
        """What of another text carries its answer over."""
        with self._asked(body.id) as asked:
            found = patch(**asked, other=body.other, each=body.each, estimated=body.estimated, report=report)
        return arrays_of(found, "names", "tokens", "other_tokens", "results", "recovered", "result", "other")

    def lens(self, key: str, n: int, last: int) -> Json:
        """What each state of the stream would say, at the `last` positions."""
        found = self._found(key)
        target, stages = found.objective.target, sites.stream(found.model.config)
        tokens, probs_of_target = [], []
        for stage in stages:  # one at a time: the logits of a large vocabulary take much memory
            with self._computing:
                probs, _ = softmax.forward(read(found.model, found.value(stage)[-last:]))
            best = largest(probs, n)
            tokens.append([_named(found.model, row, at) for row, at in zip(probs, best, strict=True)])
            probs_of_target.append(None if target is None else probs[:, target].tolist())
        return {
            "stages": stages, "tokens": tokens,
            "target_prob": None if target is None else probs_of_target,
        }  # fmt: skip

    def words(self, key: str, site: str, n: int, position: int) -> Json:
        """The gradient at a state of the stream, at one position, in words."""
        found = self._found(key)
        if position not in range(len(found.tokens)):
            raise UserError(f"Positions are 0 to {len(found.tokens) - 1}; got {position}.")
        with self._computing:
            (words,) = in_words(found, site, n, slice(position, position + 1))
        return words._asdict()

    def shares(self, body: Shares) -> list[Json]:
        """What each part of the model wrote into a logit."""
        with self._computing:
            found = shares(self._found(body.id), body.target, body.rival)
        order = sorted(found.items(), key=lambda item: -abs(item[1]))
        return [{"part": part, "share": share} for part, share in order]

    def score(self, body: ScoreBody) -> Json:
        """Why a head looks where it looks."""
        with self._computing:
            found = explain_score(self._found(body.id), body.layer, body.head, body.query, body.key)
        pairs = [
            {"query_part": query, "key_part": key, "share": share}
            for query, key, share in found.strongest(body.n)
        ]
        return {**arrays_of(found, "score", "query_parts", "key_parts", "shares"), "pairs": pairs}

    def neuron(self, body: Neuron) -> list[Json]:
        """Where in the run's text a neuron is most active."""
        folder, model = self.run_folder(), self.model
        learned = material.read(folder, require_tokenizer(model), run_config.read(folder).layout)
        with self._experiment:
            found = strongest(model, learned.validation.tokens, body.layer, body.unit, body.n)
        return [
            {
                "context": [texts.word(model, token_id) for token_id in context.token_ids],
                "at": context.at,
                "activation": context.activation,
            }
            for context in found
        ]

    def why(self, body: Why) -> Json:
        """Why a weight moves in the run's next step."""
        with self._experiment:
            found = why(self.run_folder(), body.parameter, tuple(body.index))
        return {**found._asdict(), "pushed_by": [push._asdict() for push in found.pushed_by]}

    def run_folder(self) -> Path:
        """`UserError` where the model is no run."""
        if self.folder is None:
            raise UserError("This model is no run: nothing is known of how it learned.")
        return self.folder

    def _trace(self, question: Question) -> Trace:
        if (question.text is None) == (question.ids is None):
            raise UserError("A question has a text, or token ids.")
        return trace(
            self._model(question.checkpoint),
            question.ids if question.text is None else question.text,
            question.target,
            rival=question.rival,
            objective=question.objective,
            edits=_edits(question.edits),
            hold=_most(),
        )

    @contextlib.contextmanager
    def _asked(self, key: str) -> Iterator[Json]:
        """What a trace was asked, of the same model, changed in the same way; one experiment at a time."""
        made = self._found(key)
        with self._experiment:
            yield {
                "model": made.model,
                "text": made.token_ids,
                "target": made.objective.target,
                "rival": made.objective.rival,
                "objective": made.objective.kind,
                "edits": made.edits,
            }

    def _model(self, checkpoint: str | None) -> Model:
        version = self._version(checkpoint)
        with self._held:
            if version not in self._models:
                self._models[version] = sources.load(self._path(checkpoint))
                while len(self._models) > MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(version)
            return self._models[version]

    def _version(self, checkpoint: str | None) -> str:
        """Other after a run that trains has written the checkpoint anew."""
        path = Path(self._path(checkpoint))
        if checkpoint is None and self.folder is not None:
            path = path / (BEST if files.exists(path / BEST) else LAST)
        return f"{checkpoint} {path.stat().st_mtime_ns if path.is_file() else 0}"

    def _path(self, checkpoint: str | None) -> str | Path:
        if checkpoint is None:
            return self.source
        if checkpoint not in self.checkpoints():
            raise UserError(f"This model has no checkpoint {checkpoint[:50]!r}.")
        kept = {"best": BEST, "last": LAST}.get(checkpoint, f"{CHECKPOINTS}/{checkpoint}{SAFETENSORS}")
        return Path(self.source) / kept

    def _hold(self, key: str, made: Trace) -> Trace:
        with self._held:
            for before in self._traces.values():
                before.release()
            self._traces[key] = made
            while len(self._traces) > HELD:
                self._traces.popitem(last=False)
        return made

    def _known(self, key: str) -> Trace | None:
        with self._held:
            if key in self._traces:
                self._traces.move_to_end(key)
            return self._traces.get(key)

    def _found(self, key: str) -> Trace:
        made = self._known(key)
        if made is None:
            raise ForgottenError
        return made


def arrays_of(found: Any, *names: str) -> Json:
    """Attributes by name, as JSON has them."""
    return {name: arrays.plain(getattr(found, name)) for name in names}


def _described(key: str, made: Trace) -> Json:
    model, objective, n_tokens = made.model, made.objective, len(made.tokens)
    probs, _ = softmax.forward(made.logits[-1])
    best = np.argsort(-probs, kind="stable")[:CANDIDATES]
    named = _named(model, probs, best)
    width = made.logits.itemsize
    return {
        "id": key,
        "tokens": made.tokens,
        "ids": made.token_ids.tolist(),
        "objective": {
            **vars(objective),
            "target_token": _word(model, objective.target),
            "rival_token": _word(model, objective.rival),
        },
        "result": made.result,
        "next": [{**each, "logit": float(made.logits[-1, each["id"]])} for each in named],
        "target_prob": None if objective.target is None else float(probs[objective.target]),
        "shapes": {site.name: sites.shape(site, model.config, n_tokens) for site in made.sites},
        "bytes": prediction.memory(model.config, n_tokens, width=width, hold=_most()),
        "experiment_bytes": runs.memory(model.config, n_tokens, width=width),
    }


def _most() -> int:
    return min(HOLD, (fits.available() or HOLD) // 8)


def _word(model: Model, token_id: int | None) -> str | None:
    return None if token_id is None else texts.word(model, token_id)


def _named(model: Model, probs: np.ndarray, token_ids: np.ndarray) -> list[Json]:
    return [
        {"token": texts.word(model, token_id), "id": int(token_id), "prob": float(probs[token_id])}
        for token_id in token_ids
    ]


def _edits(bodies: list[EditBody]) -> dict[str, Edit]:
    edits: dict[str, Edit] = {}
    for body in bodies:
        where = tuple(slice(None) if number is None else number for number in body.where) or ...
        edit = zero(where) if body.kind == "zero" else scale(body.factor, where)
        edits = together(edits, {body.site: edit})
    return edits


def _sampling(body: Draw) -> Sampling:
    return Sampling(temperature=body.temperature, top_k=body.top_k, top_p=body.top_p, min_p=body.min_p)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
