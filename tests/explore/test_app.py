"""The explorer's interface: every number is the library's; what cannot be asked is refused in a sentence."""

import asyncio
import json
import math
import threading
import time

import numpy as np
import pytest

import handgrad
from handgrad.errors import UserError
from handgrad.explore import arrays, experiments, held, learning
from handgrad.explore.explorer import Explorer
from handgrad.explore.held import TRACES
from handgrad.trace import ablate, attribute, explain_score, in_words, logit_lens, patch, shares, sites
from handgrad.trace import edits as edits_
from handgrad.trace.edits import scale, zero
from handgrad.training import metrics
from handgrad.training.movement import why
from tests.explore.conftest import TEXT

QUESTION = {"text": "To be, or ", "target": "n"}


def ask(client, **changes):
    answer = client.post("/api/trace", json={**QUESTION, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcome(client, path, **question):
    """What an experiment ends with, at once or after lines on how far it is."""
    answer = client.post(f"/api/{path}", json=question)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text.splitlines()[-1])


def unpacked(answer):
    assert answer.status_code == 200, answer.text
    n = int.from_bytes(answer.content[:4], "little")
    header = json.loads(answer.content[4 : 4 + n])
    numbers = np.frombuffer(answer.content, "<f4", offset=4 + n)
    return header, numbers.reshape(header["count"], *header["shape"])


@pytest.fixture
def trace(explorer):
    return handgrad.trace(explorer.held.model(), "To be, or ", "n")


def test_the_model_is_described_with_every_site_and_the_op_that_computes_it(client, explorer, folder):
    about = client.get("/api/model").json()
    assert about["n_layers"] == 3
    assert about["checkpoints"] == ["best", "last", "6", "8"]
    assert [site["name"] for site in about["sites"]] == [
        s.name for s in sites.of(explorer.held.model().config)
    ]
    for site in about["sites"]:
        formula = client.get(f"/api/formula/{site['op']}").json()
        assert "def forward" in formula["forward"]
        assert "def backward" in formula["backward"]
    assert about["example"] == TEXT[:20]
    assert len(Explorer(str(folder)).about()["example"]) == 31  # of the run's own text, within its context
    assert about["stream"] == sites.stream(explorer.held.model().config)


def test_a_question_is_answered_with_the_librarys_numbers_and_has_one_id(client, trace):
    answer = ask(client)
    assert answer["result"] == trace.result
    assert answer["tokens"] == trace.tokens
    assert [(one["token"], one["prob"]) for one in answer["next"][:5]] == trace.next(5)
    assert answer["objective"]["target_token"] == "n"
    assert ask(client)["id"] == answer["id"] != ask(client, target="b")["id"]
    assert {name: tuple(shape) for name, shape in answer["shapes"].items()} == {
        name: trace.value(name).shape for name in trace.names
    }


def test_every_sites_numbers_and_gradients_arrive_as_they_are(client, trace):
    key = ask(client)["id"]
    for name in trace.names:
        url = f"/api/trace/{key}/array?site={name}&what=both"
        header, (value, gradient) = unpacked(client.get(url))
        np.testing.assert_array_equal(value, trace.value(name).astype(np.float32))
        np.testing.assert_array_equal(gradient, trace.gradient(name).astype(np.float32))
        assert header["min"] == pytest.approx(float(trace.value(name).min()))
    for gradient, read in ((0, trace.value), (1, trace.gradient)):
        stats = client.get(f"/api/trace/{key}/stats?gradient={gradient}").json()
        assert list(stats) == trace.names
        name = "blocks.1.attention.heads"
        assert stats[name]["rms"] == pytest.approx(float(np.sqrt(np.mean(read(name) ** 2))), rel=1e-6)


@pytest.mark.parametrize("side", [10, 4])
@pytest.mark.parametrize("kind", ["probs", "scores"])
def test_small_heads_have_the_strongest_number_of_each_part_and_what_the_last_token_looks_at(
    client, trace, kind, side
):
    key, edges = ask(client)["id"], np.arange(side + 1) * 10 // side
    for what in ("value", "gradient"):
        asked = f"/api/trace/{key}/heads?kind={kind}&what={what}&last=10&side={side}"
        header, (small,) = unpacked(client.get(asked))
        maps = [trace[f"blocks.{layer}.attention.{kind}"]._asdict()[what] for layer in range(3)]
        seen = np.tril(np.stack(maps)).astype(np.float32)
        for i, j in np.ndindex(side, side):
            part = seen[..., edges[i] : edges[i + 1], edges[j] : edges[j + 1]].reshape(3, 2, -1)
            np.testing.assert_array_equal(np.abs(small[..., i, j]), np.abs(part).max(axis=-1))
            assert (part == small[..., i, j, None]).any(axis=-1).all()
        assert header["mean"] == pytest.approx(np.mean([m[:, -1] for m in maps], axis=(0, 1)).tolist())
    refused = client.get(f"/api/trace/{key}/heads?last=10&side=0")
    assert refused.status_code == 400


def test_sizes_are_those_of_each_head_and_of_each_position(client, trace):
    key = ask(client)["id"]
    for site, n in [("blocks.1.attention.heads", 2), ("blocks.1.residual1", 10)]:
        for gradient, array in enumerate(trace[site]):
            told = client.get(f"/api/trace/{key}/sizes?site={site}&gradient={gradient}").json()
            squares = np.square(array).reshape(n, -1).mean(axis=1)
            assert told == pytest.approx(np.sqrt(squares).tolist(), rel=1e-6)


def test_a_part_of_an_array_is_asked_for_by_index(client, trace):
    key = ask(client)["id"]
    site = "blocks.0.attention.probs"
    _, (part,) = unpacked(client.get(f"/api/trace/{key}/array?site={site}&index=1,:,2:5"))
    np.testing.assert_array_equal(part, trace.value(site)[1, :, 2:5])
    for index, says in [("9", "there are 2"), ("x", "a number or a range"), ("0,0,0,0", "3 axes")]:
        answer = client.get(f"/api/trace/{key}/array?site={site}&index={index}")
        assert answer.status_code == 400
        assert says in answer.json()["error"]["message"]


def test_an_answer_is_never_larger_than_its_bound(client, monkeypatch):
    monkeypatch.setattr(arrays, "MOST", 10)
    key = ask(client)["id"]
    answer = client.get(f"/api/trace/{key}/array?site=embedding")
    assert answer.status_code == 400
    assert "Ask for a part" in answer.json()["error"]["message"]


def test_edits_and_checkpoints_are_those_of_the_library(client, explorer, folder):
    edits = [{"site": "blocks.1.attention.heads", "kind": "zero", "where": [0]}]
    changed = handgrad.trace(
        explorer.held.model(), "To be, or ", "n", edits={"blocks.1.attention.heads": zero(0)}
    )
    assert ask(client, edits=edits)["result"] == changed.result
    both = [*edits, {"site": "blocks.1.attention.heads", "kind": "scale", "factor": 0.5, "where": [1]}]
    in_turn = {"blocks.1.attention.heads": edits_.Chained(zero(0), scale(0.5, 1))}
    without = handgrad.trace(explorer.held.model(), "To be, or ", "n", edits=in_turn)
    assert ask(client, edits=both)["result"] == without.result
    model = handgrad.load(folder / "checkpoints" / "6.safetensors")
    assert ask(client, checkpoint="6")["result"] == handgrad.trace(model, "To be, or ", "n").result


def test_what_comes_next_follows_the_settings(client, trace):
    key = ask(client)["id"]
    plain = client.post("/api/next", json={"id": key, "n": 5}).json()
    assert [one["token"] for one in plain["candidates"]] == [token for token, _ in trace.next(5)]
    few = client.post("/api/next", json={"id": key, "top_k": 2, "temperature": 0.5}).json()
    assert few["kept"] == 2
    assert sum(one["prob"] for one in few["candidates"]) == pytest.approx(1.0)
    assert [one["kept"] for one in few["candidates"][:3]] == [True, True, False]
    asked = [{"id": key, "top_k": 2, "seed": seed} for seed in range(8)]
    drawn = {client.post("/api/sample", json=one).json()["token"] for one in asked}
    assert drawn <= {one["token"] for one in few["candidates"][:2]}


def test_explanations_are_the_librarys(client, explorer, trace):
    key, model = ask(client)["id"], explorer.held.model()
    told = outcome(client, "attribute", id=key)
    np.testing.assert_allclose(told["by_token"], attribute(model, "To be, or ", "n").by_token, rtol=1e-5)
    told = outcome(client, "ablate", id=key, each="head", layers=[1])
    found = ablate(model, "To be, or ", "n", layers=[1]).without
    assert told["without"][0] == [None, None]
    np.testing.assert_allclose(told["without"][1], found[1], rtol=1e-6)
    told = outcome(client, "patch", id=key, other="to be, or ")
    np.testing.assert_allclose(
        told["results"], patch(model, "To be, or ", "to be, or ", "n").results, rtol=1e-6
    )
    told = client.get(f"/api/trace/{key}/lens?n=2").json()
    stages = logit_lens(trace)
    assert told["stages"] == list(stages)
    last = list(stages.values())[-1][-1]
    assert told["tokens"][-1][-1][0]["id"] == int(last.argmax())
    told = client.post("/api/shares", json={"id": key, "target": "n", "rival": "b"}).json()
    assert {one["part"]: one["share"] for one in told} == pytest.approx(shares(trace, "n", "b"))
    told = client.post("/api/score", json={"id": key, "layer": 1, "head": 0, "query": -1, "key": 2}).json()
    assert told["score"] == pytest.approx(explain_score(trace, 1, 0, -1, 2).score)
    assert len(told["pairs"]) == 10
    url = f"/api/trace/{key}/words?n=3&position="
    assert client.get(f"{url}2").json() == [
        {"site": site, **in_words(trace, site, 3)[2]._asdict()} for site in stages
    ]
    assert "Positions are 0 to 9" in client.get(f"{url}10").json()["error"]["message"]


def test_the_lens_reads_the_last_positions_that_are_asked_for(client):
    key = ask(client)["id"]
    whole, few = (client.get(f"/api/trace/{key}/lens?last={last}").json() for last in (64, 3))
    assert [len(row) for row in few["tokens"]] == [3] * 7
    for row, all_of_it in zip(few["tokens"], whole["tokens"], strict=True):
        for here, there in zip(row, all_of_it[-3:], strict=True):
            assert [one["id"] for one in here] == [one["id"] for one in there]
            assert [one["prob"] for one in here] == pytest.approx([one["prob"] for one in there])


def test_experiments_are_those_of_the_changed_model(client, explorer):
    off = {"site": "blocks.0.attention.heads", "kind": "zero", "where": [1]}
    key, kept = ask(client, edits=[off])["id"], {"edits": {"blocks.0.attention.heads": zero(1)}}
    about = (explorer.held.model(), "To be, or ", "n")
    told = outcome(client, "attribute", id=key, method="gradient x input")
    expected = attribute(*about, method="gradient x input", **kept)
    np.testing.assert_allclose(told["by_token"], expected.by_token, rtol=1e-5)
    told = outcome(client, "ablate", id=key)
    np.testing.assert_allclose(told["without"], ablate(*about, **kept).without, rtol=1e-6)
    told = outcome(client, "patch", id=key, other="to be, or ", each="head")
    patched = patch(explorer.held.model(), "To be, or ", "to be, or ", "n", each="head", **kept)
    np.testing.assert_allclose(told["results"], patched.results, rtol=1e-6)


def test_an_experiment_that_takes_long_tells_how_far_it_is(client, monkeypatch):
    key = ask(client)["id"]
    at_once = outcome(client, "ablate", id=key)
    monkeypatch.setattr(experiments, "SOON", 0.0)
    answer = client.post("/api/ablate", json={"id": key})
    assert answer.headers["content-type"] == experiments.LINES
    *told, last = map(json.loads, answer.text.splitlines())
    assert last == at_once
    assert told
    assert all(line.keys() == {"share"} for line in told)
    answer = client.post("/api/patch", json={"id": key, "other": "to be"})
    assert "equal length" in json.loads(answer.text.splitlines()[-1])["error"]["message"]


def test_an_experiment_ends_when_nobody_listens_any_more(monkeypatch):
    monkeypatch.setattr(experiments, "SOON", 0.0)
    ended = threading.Event()

    def work(report):
        try:
            for share in range(1000):
                report(share / 1000)
                time.sleep(0.01)
        finally:
            ended.set()

    async def listen_for_a_while():
        lines = (await experiments.answer(work)).body_iterator
        assert "share" in json.loads(await anext(lines))
        await lines.aclose()
        return await asyncio.to_thread(ended.wait, 5.0)

    assert asyncio.run(listen_for_a_while())


def test_a_trace_is_read_while_an_experiment_goes_on(client, explorer):
    key = ask(client)["id"]
    with explorer._experiment:
        assert client.get(f"/api/trace/{key}/stats").status_code == 200
        assert ask(client, target="b")["id"] != key


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/api/trace", {}, 400, "a text, or token ids"),
        ("/api/trace", {"text": "To be", "ids": [1]}, 400, "a text, or token ids"),
        ("/api/trace", {"text": "Zzz€"}, 400, "€"),
        (
            "/api/trace",
            {"text": "To be", "edits": [{"site": "blocks.9.norm1", "kind": "zero"}]},
            400,
            "near are",
        ),
        ("/api/trace", {"text": "To be", "checkpoint": "../../etc/passwd"}, 400, "no checkpoint"),
        ("/api/trace", {"text": "To be", "file": "/etc/passwd"}, 400, "file"),
        ("/api/next", {"id": "none"}, 404, "Ask anew"),
        ("/api/next", {"id": "none", "temperature": -1}, 400, "temperature"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(client, path, body, status, says):
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_only_the_traces_asked_for_last_are_held(client, explorer):
    keys = [ask(client, target=target)["id"] for target in "Tobe,rn"]
    found = [client.get(f"/api/trace/{key}/array?site=embedding").status_code for key in keys]
    assert found == [404] * (len(keys) - TRACES[1]) + [200] * TRACES[1]


def test_large_traces_are_fewer(client, monkeypatch):
    monkeypatch.setattr(held, "HOLD", 1)
    keys = [ask(client, text="not to be", target=target)["id"] for target in "be,rn"]
    found = [client.get(f"/api/trace/{key}/array?site=embedding").status_code for key in keys]
    assert found == [404] * 3 + [200] * TRACES[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 403), ({"origin": "http://evil.example"}, 403), ({"host": "127.0.0.1"}, 200)],
)
def test_pages_from_elsewhere_are_refused(client, headers, status):
    assert client.get("/api/model", headers=headers).status_code == status


def test_a_run_tells_how_it_learned(client, folder):
    run = client.get("/api/run").json()
    rows = metrics.read(folder)
    assert run["steps"] == 8
    assert [one["step"] for one in run["evaluations"]] == [0, 2, 4, 6, 8]
    assert len(run["losses"]) == 8
    assert run["losses"][-1][1] == next(row.loss for row in reversed(rows) if hasattr(row, "loss"))
    assert run["diagnoses"]
    assert run["baselines"].keys() >= {"uniform", "xz"}


def test_a_run_tells_why_a_weight_moves_and_where_a_neuron_is_active(client, folder, explorer):
    place = {"parameter": "blocks.1.attention.query.weight", "index": [2, 3]}
    told = client.post("/api/why", json=place).json()
    found = why(folder, place["parameter"], (2, 3))
    assert told["update"] == found.update
    assert told["pushed_by"][0]["text"] == found.pushed_by[0].text
    contexts = client.post("/api/neuron", json={"layer": 2, "unit": 5, "n": 3}).json()
    assert len(contexts) == 3
    strongest = contexts[0]
    text = "".join(strongest["context"])
    assert text in (folder.parent / "book.txt").read_text()
    assert strongest["activation"] >= contexts[1]["activation"]


def test_long_curves_are_thinned_by_the_mean_of_neighbours():
    points = [(step, float(step)) for step in range(1, 5001)]
    thinned = learning.thinned(points)
    assert len(thinned) <= learning.POINTS
    assert thinned[0] == (3, 2.0)
    assert thinned[-1][0] == 5000


def test_a_model_that_is_no_run_says_so(folder, tmp_path):
    model = handgrad.save(handgrad.load(folder), tmp_path / "model")
    explorer = Explorer(str(model))
    assert explorer.held.folder is None
    assert explorer.held.checkpoints() == []
    with pytest.raises(UserError, match="no run"):
        explorer.run_folder()
    assert explorer.about()["has_run"] is False


def test_what_is_no_number_is_null_in_json():
    assert arrays.plain(np.array([[1.0, math.nan], [math.inf, 2.0]])) == [[1.0, None], [None, 2.0]]


def test_new_rows_are_told_while_they_are_written_and_no_half_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "PAUSE", 0.01)
    path = tmp_path / metrics.METRICS
    old, new = (metrics.StepRow(step, 1.5, 0.1, 0.2, 10 * step, 0.5) for step in (1, 2))
    path.write_text(json.dumps(old._asdict()) + "\n")

    async def listen():
        events = learning.live(tmp_path)
        await anext(events)
        line = json.dumps(new._asdict()) + "\n"
        with path.open("a") as file:
            file.write(line[:20])
            file.flush()
            assert (await anext(events)).startswith(":")
            file.write(line[20:])
        told = await anext(events)
        while told.startswith(":"):
            told = await anext(events)
        return told

    kind, data = asyncio.run(asyncio.wait_for(listen(), 10)).splitlines()[:2]
    assert kind == "event: step"
    assert json.loads(data.removeprefix("data: ")) == new._asdict()
