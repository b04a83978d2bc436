"""Many clients on one server: no error, no lost or mixed text, flat memory; and answers that follow schemas.

    python benchmarks/serve.py                            # two minutes, 32 clients, a small random model
    python benchmarks/serve.py --model runs/baby-1 --seconds 30

A server is started as its users start it. Before, the answers to some requests are written alone, in this
process, by the same engine. Then all clients ask for them again and again, whole or streamed; some leave in
the middle of a stream. Every text must be the one that was written alone, and one that was left must be its
beginning. The server's memory is looked at every second. At the end come 1,000 answers that are bound to
schemas, and are checked.
"""

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import handgrad
from handgrad import engines
from handgrad.formats.model_folder import Model
from handgrad.generation.batch import advance
from handgrad.generation.request import Request
from handgrad.generation.writer import Writer
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import ByteTokenizer

SMALL = ModelConfig(
    vocab_size=256, context_length=512, n_layers=4, n_heads=4, d_model=128, position="rope", norm="rms_norm"
)
SLOTS, WAITING, CONTEXT = 8, 64, 1024
LEAVES = 0.2
"""The share of clients that leave in the middle of an answer."""
WORDS = "a the of sea light boat wind over under green slow old seven sings turns keeps".split()


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS = [
    _object(ok={"type": "boolean"}, n={"type": "integer", "minimum": 0, "maximum": 99}),
    _object(name={"type": "string", "maxLength": 8}, kind={"enum": ["cat", "dog"]}),
    {
        "type": "array",
        "items": {"type": "integer", "minimum": -9, "maximum": 9},
        "minItems": 1,
        "maxItems": 5,
    },
    _object(
        at={"type": "array", "items": {"type": "boolean"}, "maxItems": 3}, inside=_object(a={"const": 1})
    ),
]


@dataclass
class Case:
    """A request, and the text that it is answered with when nobody else asks."""

    body: dict[str, Any]
    alone: str


@dataclass
class Tally:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    first_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def cases(model: Model, n: int, rng: random.Random) -> list[Case]:
    """Requests of all lengths, greedy and drawn, and their answers, one after the other."""
    decoding = engines.get("cpu").decoding(model.config, model.weights, blocks=model.blocks)
    room = model.config.context_length
    made = []
    for number in range(n):
        prompt = " ".join(rng.choices(WORDS, k=rng.choice([1, 3, 10, 30])))[: room // 2]
        settings = {
            "max_tokens": min(room // 4, rng.choice([1, 5, 20, 60, 100])),
            "temperature": rng.choice([0.0, 0.7, 1.0]),
            "top_p": rng.choice([0.9, 1.0]),
            "frequency_penalty": rng.choice([0.0, 0.5]),
            "seed": number,
        }
        writer = Writer(model, prompt, Request.of(when_full="stop", **settings))
        made.append(Case({"prompt": prompt, **settings}, "".join(_written(decoding, writer))))
    return made


def _written(decoding: Any, writer: Writer) -> Iterator[str]:
    decoding.cut(0, 0)
    while writer.finished is None:
        yield advance(decoding, {0: writer})[0].text


def client(port: int, cases: Sequence[Case], ends: float, tally: Tally, seed: int) -> None:
    """Ask until `ends`, and compare."""
    rng = random.Random(seed)
    while time.monotonic() < ends:
        case, kind = (
            rng.choice(cases),
            rng.choices(["whole", "streamed", "left"], [0.4, 0.6 - LEAVES, LEAVES])[0],
        )
        try:
            text = ask(port, case.body, kind, rng, tally)
        except Exception as error:
            tally.outcomes["error"] += 1
            tally.wrong.append(f"{type(error).__name__}: {error}")
            continue
        same = case.alone.startswith(text) if kind == "left" else text == case.alone
        tally.outcomes[kind if same else "wrong"] += 1
        if not same:
            tally.wrong.append(f"{kind}: {text!r} instead of {case.alone!r}")


def ask(port: int, body: dict[str, Any], kind: str, rng: random.Random, tally: Tally) -> str:
    """The answer's text, or as much of it as came before the client left."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    began, texts = time.monotonic(), []
    try:
        sent = json.dumps(body | {"stream": kind != "whole"})
        connection.request("POST", "/v1/completions", sent, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status} {response.read()[:200]!r}")
        if kind == "whole":
            return json.load(response)["choices"][0]["text"]
        most = rng.randrange(1, 30) if kind == "left" else sys.maxsize
        while (line := response.readline()) and len(texts) < most:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    raise RuntimeError(str(event["error"]))
                if not texts:
                    tally.first_seconds.append(time.monotonic() - began)
                texts.append(event["choices"][0]["text"])
        return "".join(texts)
    finally:
        connection.close()


def bound(port: int, number: int) -> bool:
    """Whether an answer follows its schema."""
    import jsonschema

    schema = SCHEMAS[number % len(SCHEMAS)]
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    body = {"prompt": "a", "max_tokens": 200, "seed": number, "response_format": wanted}
    text = ask(port, body, "whole", random.Random(number), Tally())
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        print(f"not valid: {text!r}")
        return False
    return True


def resident(process: subprocess.Popen[str]) -> int:
    """The server's memory in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def load(
    port: int, made: Sequence[Case], arguments: argparse.Namespace, process: Any
) -> tuple[Tally, list[int]]:
    """All clients at once, and the server's memory second by second."""
    tally, ends, memory = Tally(), time.monotonic() + arguments.seconds, []
    threads = [
        threading.Thread(target=client, args=(port, made, ends, tally, seed))
        for seed in range(arguments.clients)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(resident(process))
        time.sleep(1)
    return tally, memory


def numbers(port: int) -> dict[str, float]:
    """The server's own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def report(tally: Tally, memory: Sequence[int], seconds: float, after: dict[str, float]) -> bool:
    """Print what was seen; whether all of it is as it should be."""
    *_, before, last = quarters = [
        statistics.median(memory[len(memory) * i // 4 :][:5]) for i in (1, 2, 3)
    ] + [statistics.median(memory[-5:])]
    first = sorted(tally.first_seconds)
    written, passes = after['handgrad_tokens_total{kind="written"}'], after["handgrad_passes_total"]
    print(f"answers        {dict(tally.outcomes)}")
    print(f"tokens         {written:,.0f}: {written / seconds:,.0f} a second, {written / passes:.1f} a pass")
    late = first[len(first) * 99 // 100]
    print(f"first token    median {statistics.median(first):.3f} s, 99 of 100 within {late:.3f} s")
    print(f"memory         {', '.join(f'{n / 1e6:.1f}' for n in quarters)} MB after each quarter")
    print(
        f"still running  {after['handgrad_texts_running']:.0f}, waiting {after['handgrad_texts_waiting']:.0f}"
    )
    for line in tally.wrong[:10]:
        print(f"  {line}")
    return not tally.wrong and last < 1.02 * before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a run or a model; by default a small one with random weights")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--schemas", type=int, default=1000, help="answers that are bound to a schema")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is None:
            arguments.model = Path(folder) / "small"
            handgrad.save(Model(SMALL, init(SMALL, 0), ByteTokenizer()), arguments.model)
        model = handgrad.load(arguments.model)
        made = cases(model, arguments.cases, random.Random(0))
        command = [sys.executable, "-m", "handgrad", "serve", str(arguments.model), "--port", "0"]
        command += ["--slots", str(SLOTS), "--waiting", str(WAITING)]
        command += ["--context", str(min(CONTEXT, model.config.context_length))]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            port = int(re.search(r"localhost:(\d+)", process.stderr.readline())[1])  # type: ignore[union-attr,index]
            tally, memory = load(port, made, arguments, process)
            time.sleep(1)
            well = report(tally, memory, arguments.seconds, numbers(port))
            with ThreadPoolExecutor(arguments.clients) as clients:
                valid = sum(clients.map(lambda number: bound(port, number), range(arguments.schemas)))
            print(f"schemas        {valid} of {arguments.schemas} answers are valid")
        finally:
            process.terminate()
            print(f"end            exit code {process.wait(60)}")
    sys.exit(not well or valid < arguments.schemas)


if __name__ == "__main__":
    main()
