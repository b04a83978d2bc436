"""What the page asks, answered by the library."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import handgrad
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
from handgrad.explore.held import Held, most_inside
from handgrad.formats.model_folder import Model
from handgrad.generation import sampling
from handgrad.generation.sampling import Sampling
from handgrad.generation.writer import require_tokenizer
from handgrad.model.count import count
from handgrad.ops import softmax
from handgrad.trace import (
    Trace,
    ablate,
    attribution,
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

TURN = 0.001
"""Seconds in which another thread takes its turn."""
CANDIDATES = 20
BEGINNING = 32
"""Tokens of a run's text that the page begins with."""
Json = dict[str, Any]


class Explorer:
    """One model. Its functions are called from several threads.

    Traces are computed one after the other, and so are experiments of many runs, beside them: who looks on
    meanwhile does not wait for an experiment, and what was computed is there at once.
    """

    def __init__(self, source: str, example: str = ""):
        """`example` is the text that the page begins with, of a run by default its own validation text's."""
        self.held, self._example = Held(source), example
        self._computing = threading.RLock()
        self._experiment = threading.Lock()
        self.held.model()  # refused now, if it must be

    def about(self) -> Json:
        """The model, and all of its sites."""
        model = self.held.model()
        config = model.config
        described = [{**site._asdict(), "op": formulas.op(site.name, config)} for site in sites.of(config)]
        return {
            "name": self.held.source,
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
            "has_tokenizer": model.tokenizer is not None,
            "has_run": self.held.folder is not None,
            "stream": sites.stream(config),
            "sites": described,
            "checkpoints": self.held.checkpoints(),
            "example": self._example or self._beginning(),
        }

    def _beginning(self) -> str:
        """Of the run's validation text; empty where the model is no run."""
        folder, tokenizer = self.held.folder, self.held.model().tokenizer
        if folder is None or tokenizer is None:
            return ""
        config = run_config.read(folder)
        tokens = material.read(folder, tokenizer, config.layout).validation.tokens
        return tokenizer.decode(tokens[: min(BEGINNING, config.model.context_length - 1)])

    def ask(self, question: Question) -> Json:
        """Run a text through the model. The same question has the same id."""
        of_model = self.held.version(question.checkpoint)
        key = hashlib.sha256(f"{of_model} {question.model_dump_json()}".encode()).hexdigest()[:16]
        made = self.held.known(key)
        if made is None:
            with self._computing:
                made = self.held.known(key) or self._trace(question)
                self.held.add(key, made)
        return _described(key, made)

    def statistics(self, key: str, *, gradient: bool) -> Json:
        """Of every site: its smallest and largest number, mean, and root mean square."""
        found = {}
        for name in self.held.trace(key).names:
            with self._computing:  # for each anew: between two, others have their turn
                made = self.held.trace(key)
                found[name] = arrays.statistics(made.gradient(name) if gradient else made.value(name))
            time.sleep(TURN)
        return found

    def sizes(self, key: str, site: str, *, gradient: bool) -> list[float]:
        """The root mean square of each head's numbers; where there are no heads, of each position's."""
        with self._computing:
            made = self.held.trace(key)
            return arrays.sizes(made.gradient(site) if gradient else made.value(site))

    def array(self, key: str, site: str, what: arrays.What, index: str) -> bytes:
        """Part of what stands at a site."""
        with self._computing:
            return arrays.packed(self.held.trace(key), site, what, index)

    def small_heads(self, key: str, kind: arrays.Kind, what: arrays.One, last: int, side: int) -> bytes:
        """All heads' attention as small pictures."""
        with self._computing:
            return arrays.small_heads(self.held.trace(key), kind, what, last, side)

    def next(self, body: Draw) -> Json:
        """What may come next, before and after the settings of sampling."""
        made = self.held.trace(body.id)
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
        made = self.held.trace(body.id)
        probs = sampling.distribution(made.logits[-1], _sampling(body))
        token_id = sampling.draw(probs, np.random.default_rng(body.seed))
        return {"token": texts.word(made.model, token_id), "id": token_id}

    def attribute(self, body: Attribute, report: Report) -> Json:
        """What each token counts for."""
        with self._experiment:
            found = attribution.of(self.held.trace(body.id), body.method, body.site, report=report)
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
        found = self.held.trace(key)
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

    def words(self, key: str, n: int, position: int) -> list[Json]:
        """The gradients at all states of the stream, at one position, in words."""
        found = self.held.trace(key)
        if position not in range(len(found.tokens)):
            raise UserError(f"Positions are 0 to {len(found.tokens) - 1}; got {position}.")
        with self._computing:
            at = slice(position, position + 1)
            states = sites.stream(found.model.config)
            return [{"site": site, **in_words(found, site, n, at)[0]._asdict()} for site in states]

    def shares(self, body: Shares) -> list[Json]:
        """What each part of the model wrote into a logit."""
        with self._computing:
            found = shares(self.held.trace(body.id), body.target, body.rival)
        order = sorted(found.items(), key=lambda item: -abs(item[1]))
        return [{"part": part, "share": share} for part, share in order]

    def score(self, body: ScoreBody) -> Json:
        """Why a head looks where it looks."""
        with self._computing:
            found = explain_score(self.held.trace(body.id), body.layer, body.head, body.query, body.key)
        pairs = [
            {"query_part": query, "key_part": key, "share": share}
            for query, key, share in found.strongest(body.n)
        ]
        return {**arrays_of(found, "score", "query_parts", "key_parts", "shares"), "pairs": pairs}

    def neuron(self, body: Neuron) -> list[Json]:
        """Where in the run's text a neuron is most active."""
        folder, model = self.run_folder(), self.held.model()
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
        folder = self.held.folder
        if folder is None:
            raise UserError("This model is no run: nothing is known of how it learned.")
        return folder

    def _trace(self, question: Question) -> Trace:
        if (question.text is None) == (question.ids is None):
            raise UserError("A question has a text, or token ids.")
        self.held.make_room()
        return trace(
            self.held.model(question.checkpoint),
            question.ids if question.text is None else question.text,
            question.target,
            rival=question.rival,
            objective=question.objective,
            edits=_edits(question.edits),
            hold=most_inside(),
        )

    @contextlib.contextmanager
    def _asked(self, key: str) -> Iterator[Json]:
        """What a trace was asked, of the same model, changed in the same way; one experiment at a time."""
        made = self.held.trace(key)
        with self._experiment:
            yield {
                "model": made.model,
                "text": made.token_ids,
                "target": made.objective.target,
                "rival": made.objective.rival,
                "objective": made.objective.kind,
                "edits": made.edits,
            }


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
        "bytes": prediction.memory(model.config, n_tokens, width=width, hold=most_inside()),
        "experiment_bytes": runs.memory(model.config, n_tokens, width=width),
    }


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
