"""What the page asks, answered by the library: a model, its checkpoints, and the traces asked for last."""

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

import handgrad
from handgrad.data import files
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
    scale,
    shares,
    sites,
    trace,
    zero,
)  # fmt: skip
from handgrad.trace import text as texts
from handgrad.trace.edits import Edit
from handgrad.trace.lens import read
from handgrad.trace.neurons import strongest
from handgrad.training import material, run_config
from handgrad.training.movement import why

HELD = 6
"""Traces that are held,"""
MODELS = 2
"""and checkpoints."""
CANDIDATES = 20
BEGINNING = 32
"""Tokens of a run's text that the page begins with."""
Json = dict[str, Any]


class ForgottenError(Exception):
    """A trace that is held no longer, or never was: ask anew."""


class Explorer:
    """One model. Its functions are called from several threads, and compute one after the other."""

    def __init__(self, source: str, example: str = ""):
        """`example` is the text that the page begins with, of a run by default its own validation text's."""
        self.source, self._example = source, example
        self._lock = threading.RLock()
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._traces: OrderedDict[str, tuple[Question, Trace]] = OrderedDict()
        self._model(None)  # refused now, if it must be

    @property
    def model(self) -> Model:
        """As it is now: a run that trains writes better ones."""
        with self._lock:
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
        with self._lock:
            of_model = self._version(question.checkpoint)
            key = hashlib.sha256(f"{of_model} {question.model_dump_json()}".encode()).hexdigest()[:16]
            if key not in self._traces:
                made = self._trace(question)
                self._traces[key] = (question, made)
                while len(self._traces) > HELD:
                    self._traces.popitem(last=False)
            self._traces.move_to_end(key)
            return self._described(key, self._traces[key][1])

    def statistics(self, key: str, *, gradient: bool) -> Json:
        """Of every site: its smallest and largest number, mean, and root mean square."""
        with self._lock:
            found = self._found(key)[1]
            read = found.gradient if gradient else found.value
            return {name: arrays.statistics(read(name)) for name in found.names}

    def array(self, key: str, site: str, what: arrays.What, index: str) -> bytes:
        """Part of what stands at a site."""
        with self._lock:
            return arrays.packed(self._found(key)[1], site, what, index)

    def next(self, body: Draw) -> Json:
        """What may come next, before and after the settings of sampling."""
        logits = self._last_logits(body.id)
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
            for named in self._named(before, best)
        ]
        return {"candidates": candidates, "entropy": entropy, "kept": int(kept.sum())}

    def sample(self, body: Draw) -> Json:
        """One token, drawn."""
        probs = sampling.distribution(self._last_logits(body.id), _sampling(body))
        token_id = sampling.draw(probs, np.random.default_rng(body.seed))
        return {"token": texts.word(self.model, token_id), "id": token_id}

    def attribute(self, body: Attribute) -> Json:
        """What each token counts for."""
        with self._lock:
            question, _ = self._found(body.id)
            found = attribute(*self._asked(question), method=body.method, site=body.site, **_of(question))
        return arrays_of(found, "by_token", "result", "baseline", "missing", "tokens")

    def ablate(self, body: Ablate) -> Json:
        """What is missing when a part is switched off."""
        with self._lock:
            question, _ = self._found(body.id)
            found = ablate(
                *self._asked(question), each=body.each, by=body.by, layers=body.layers, **_of(question)
            )
        return arrays_of(found, "result", "without", "effect")

    def patch(self, body: Patch) -> Json:
        """What of another text carries its answer over."""
        with self._lock:
            question, _ = self._found(body.id)
            model, text, target = self._asked(question)
            found = patch(
                model, text, body.other, target, each=body.each, estimated=body.estimated, **_of(question)
            )
        return arrays_of(found, "names", "tokens", "other_tokens", "results", "recovered", "result", "other")

    def lens(self, key: str, n: int) -> Json:
        """What each state of the stream would say."""
        with self._lock:
            found = self._found(key)[1]
            target, stages = found.objective.target, sites.stream(found.model.config)
            tokens, probs_of_target = [], []
            for stage in stages:  # one at a time: the logits of a large vocabulary take much memory
                probs, _ = softmax.forward(read(found.model, found.value(stage)))
                best = np.argsort(-probs, axis=-1, kind="stable")[:, :n]
                tokens.append([self._named(row, at) for row, at in zip(probs, best, strict=True)])
                probs_of_target.append(None if target is None else probs[:, target].tolist())
        return {
            "stages": stages, "tokens": tokens,
            "target_prob": None if target is None else probs_of_target,
        }  # fmt: skip

    def words(self, key: str, site: str, n: int) -> list[Json]:
        """The gradient at a state of the stream, in words."""
        with self._lock:
            return [words._asdict() for words in in_words(self._found(key)[1], site, n)]

    def shares(self, body: Shares) -> list[Json]:
        """What each part of the model wrote into a logit."""
        with self._lock:
            found = shares(self._found(body.id)[1], body.target, body.rival)
        order = sorted(found.items(), key=lambda item: -abs(item[1]))
        return [{"part": part, "share": share} for part, share in order]

    def score(self, body: ScoreBody) -> Json:
        """Why a head looks where it looks."""
        with self._lock:
            found = explain_score(self._found(body.id)[1], body.layer, body.head, body.query, body.key)
        pairs = [
            {"query_part": query, "key_part": key, "share": share}
            for query, key, share in found.strongest(body.n)
        ]
        return {**arrays_of(found, "score", "query_parts", "key_parts", "shares"), "pairs": pairs}

    def neuron(self, body: Neuron) -> list[Json]:
        """Where in the run's text a neuron is most active."""
        folder = self.run_folder()
        config = run_config.read(folder)
        learned = material.read(folder, require_tokenizer(self.model), config.layout)
        with self._lock:
            found = strongest(self.model, learned.validation.tokens, body.layer, body.unit, body.n)
        return [
            {
                "context": [texts.word(self.model, token_id) for token_id in context.token_ids],
                "at": context.at,
                "activation": context.activation,
            }
            for context in found
        ]

    def why(self, body: Why) -> Json:
        """Why a weight moves in the run's next step."""
        with self._lock:
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
        model, text, target = self._asked(question)
        return trace(model, text, target, edits=_edits(question.edits), **_of(question))

    def _asked(self, question: Question) -> tuple[Model, Any, Any]:
        text = question.ids if question.text is None else question.text
        return self._model(question.checkpoint), text, question.target

    def _model(self, checkpoint: str | None) -> Model:
        if checkpoint is not None and checkpoint not in self.checkpoints():
            raise UserError(f"This model has no checkpoint {checkpoint[:50]!r}.")
        version = self._version(checkpoint)
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
        kept = {"best": BEST, "last": LAST}.get(checkpoint, f"{CHECKPOINTS}/{checkpoint}{SAFETENSORS}")
        return Path(self.source) / kept

    def _found(self, key: str) -> tuple[Question, Trace]:
        if key not in self._traces:
            raise ForgottenError
        self._traces.move_to_end(key)
        return self._traces[key]

    def _last_logits(self, key: str) -> np.ndarray:
        with self._lock:
            return self._found(key)[1].logits[-1]

    def _described(self, key: str, made: Trace) -> Json:
        probs, _ = softmax.forward(made.logits[-1])
        best = np.argsort(-probs, kind="stable")[:CANDIDATES]
        objective = made.objective
        return {
            "id": key,
            "tokens": made.tokens,
            "ids": made.token_ids.tolist(),
            "objective": {
                **vars(objective),
                "target_token": self._word(objective.target),
                "rival_token": self._word(objective.rival),
            },
            "result": made.result,
            "next": [
                {**named, "logit": float(made.logits[-1, token_id])}
                for named, token_id in zip(self._named(probs, best), best, strict=True)
            ],
            "target_prob": None if objective.target is None else float(probs[objective.target]),
            "shapes": {
                site.name: sites.shape(site, made.model.config, len(made.tokens)) for site in made.sites
            },
        }  # fmt: skip

    def _word(self, token_id: int | None) -> str | None:
        return None if token_id is None else texts.word(self.model, token_id)

    def _named(self, probs: np.ndarray, token_ids: np.ndarray) -> list[Json]:
        return [
            {"token": texts.word(self.model, token_id), "id": int(token_id), "prob": float(probs[token_id])}
            for token_id in token_ids
        ]


def arrays_of(found: Any, *names: str) -> Json:
    """Attributes by name, as JSON has them."""
    return {name: arrays.plain(getattr(found, name)) for name in names}


def _of(question: Question) -> Json:
    return {"rival": question.rival, "objective": question.objective}


def _edits(bodies: list[EditBody]) -> dict[str, Edit]:
    by_site: dict[str, Edit] = {}
    for body in bodies:
        if body.site in by_site:
            raise UserError(f"{body.site} has two edits. Name each site once.")
        where = tuple(slice(None) if number is None else number for number in body.where) or ...
        by_site[body.site] = zero(where) if body.kind == "zero" else scale(body.factor, where)
    return by_site


def _sampling(body: Draw) -> Sampling:
    return Sampling(temperature=body.temperature, top_k=body.top_k, top_p=body.top_p, min_p=body.min_p)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
