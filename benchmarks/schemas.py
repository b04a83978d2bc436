"""Answers bound to JSON schemas, of a small model with random weights: how many follow their schema.

    python benchmarks/schemas.py [ANSWERS]

Each answer is drawn nearly at random with a seed of its own, and judged by another library: pip install
jsonschema. Random weights write what no trained model would, so every way through a schema is walked. Prints
how many are whole and valid, and what a token takes.
"""

import json
import sys
import time

import jsonschema
import numpy as np

from handgrad import tree
from handgrad.formats.model_folder import Model
from handgrad.generation.batch import complete
from handgrad.generation.constraint import json_schema
from handgrad.generation.request import Request
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import BPETokenizer, ByteTokenizer

TEMPERATURE = 5.0
"""Among what a schema allows, choices are nearly even."""
WORD = {"type": "string", "maxLength": 8}
PERSON = {
    "name": WORD,
    "age": {"type": "integer", "minimum": 0, "maximum": 130},
    "ok": {"type": "boolean"},
}
DATE = {"date": {"type": "string", "pattern": "^20[0-9]{2}-[01][0-9]$"}}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
POINT = {"type": "array", "prefixItems": [DIGIT, DIGIT], "minItems": 2, "maxItems": 2, "items": False}


def closed(required: list[str], **properties: dict) -> dict:
    """An object that has these properties and no others."""
    kind = {"type": "object", "additionalProperties": False}
    return {**kind, "properties": properties, "required": required}


TREE = closed(["value"], left={"$ref": "#/$defs/tree"}, value={"enum": [0, 1]})
SCHEMAS = {
    "object": closed(["name", "age"], **PERSON),
    "array": {"type": "array", "items": {"enum": ["red", "green", 3, None]}, "minItems": 1, "maxItems": 5},
    "choice": {"anyOf": [closed(["date"], **DATE), {"type": "integer", "minimum": -50, "maximum": 50}]},
    "nested": closed(["point", "tags"], point=POINT, tags={"type": "array", "items": WORD, "maxItems": 3}),
    "recursive": {"$defs": {"tree": TREE}, "$ref": "#/$defs/tree"},
}
TOKENIZERS = {
    "bytes": ByteTokenizer(),
    "bpe": BPETokenizer.train([json.dumps(schema) for schema in SCHEMAS.values()], 600, []),
}


def random_model(name: str) -> Model:
    tokenizer = TOKENIZERS[name]
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=128,
        n_layers=2,
        n_heads=2,
        d_model=16,
        position="rope",
    )
    rng = np.random.default_rng(1)
    weights = tree.map(lambda w: w + rng.normal(size=w.shape).astype(np.float32), init(config))
    return Model(config, weights, tokenizer)


def is_valid(text: str, schema: dict) -> bool:
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def main(n: int) -> None:
    for tokenizer in TOKENIZERS:
        model = random_model(tokenizer)
        for name, schema in SCHEMAS.items():
            grammar, each = json_schema(schema), -(-n // (len(SCHEMAS) * len(TOKENIZERS)))
            requests = [
                Request.of(temperature=TEMPERATURE, seed=seed, max_tokens=2000, grammar=grammar)
                for seed in range(each)
            ]
            started = time.perf_counter()
            found = [done for _, done in complete(model, ["x"] * each, requests, engine="cpu")]
            seconds = time.perf_counter() - started
            whole = sum(done.finished == "stop" for done in found)
            valid = sum(is_valid(done.text, schema) for done in found)
            n_tokens = sum(len(done.pieces) for done in found)
            different = len({done.text for done in found})
            print(
                f"{tokenizer:6} {name:10} {each:5} answers, {whole:5} whole, {valid:5} valid, {different:4} "
                f"different; {1e6 * seconds / n_tokens:.0f} us a token",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
