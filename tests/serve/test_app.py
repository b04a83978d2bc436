"""The HTTP interface, asked in this process: what it answers, and the sentence for everything it does not."""

import asyncio
import json

import numpy as np
import pytest

from handgrad.engines import reference
from handgrad.formats.model_folder import Model
from handgrad.generation.request import Request
from handgrad.generation.writer import Writer
from handgrad.model.init import init
from handgrad.serve import app
from handgrad.serve.bodies import Chat
from handgrad.serve.guard import Rules, refusal
from handgrad.serve.job import Job
from handgrad.tokenizer import BPETokenizer

TestClient = pytest.importorskip("fastapi.testclient", reason="wants httpx2").TestClient

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "seed": 3}


@pytest.fixture
def client(service):
    with TestClient(app.create(service, Rules()), base_url="http://localhost") as client:
        yield client


def alone(model, prompt, **settings):
    """The text that the model writes when it is asked by nobody else, by the formulas."""
    decoding = reference.decoding(model.config, model.weights)
    writer = Writer(model, prompt, Request.of(when_full="stop", **settings))
    text = ""
    while writer.finished is None:
        keep, token_ids = writer.upcoming()
        decoding.cut(0, keep)
        text += writer.next(decoding.read([token_ids])[0]).text
    return text


def events(response):
    """The data of server-sent events."""
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"], lines[-1]


def test_completions_are_the_models_own_text(client, model):
    body = {"prompt": ["ab", "xyz"], "max_tokens": 8, "seed": 5, "n": 2, "temperature": 0.9, "top_k": 40}
    answer = client.post(COMPLETION, json=body).json()
    texts = [choice["text"] for choice in answer["choices"]]
    settings = {"max_tokens": 8, "temperature": 0.9, "top_k": 40, "top_p": 1.0}
    assert texts == [
        alone(model, prompt, seed=seed, **settings) for prompt in ("ab", "xyz") for seed in (5, 6)
    ]
    assert len(set(texts)) == 4
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
    assert answer["usage"]["prompt_tokens"] == 5
    assert answer["usage"]["completion_tokens"] == 32
    assert answer["object"] == "text_completion"


def test_dry_is_asked_for_by_llama_cpps_names(client, model):
    body = {"prompt": "ab", "max_tokens": 12, "seed": 5, "logit_bias": {"97": 9.0}, "temperature": 1.0}
    settings = {**body, "logit_bias": {97: 9.0}}
    how = {"dry_base": 4.0, "dry_allowed_length": 1}
    for more in ({}, {"dry_multiplier": 3.0}, {"dry_multiplier": 3.0, **how}):
        (choice,) = client.post(COMPLETION, json=body | more).json()["choices"]
        assert choice["text"] == alone(model, **settings, **more)
    assert len({alone(model, **settings, **more) for more in ({}, {"dry_multiplier": 3.0}, more)}) == 3


def test_a_prompt_may_be_tokens(client):
    as_text, as_tokens = (
        client.post(COMPLETION, json={"prompt": prompt, "seed": 1}).json()["choices"][0]["text"]
        for prompt in ("ab", [97, 98])
    )
    assert as_text == as_tokens


def test_a_chat_is_answered_as_its_lines_go_on(client, model):
    answer = client.post(CHAT, json=HELLO | {"temperature": 0}).json()
    prompt = "User: Hello\nAssistant:"
    (choice,) = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": alone(model, prompt, max_tokens=6, temperature=0),
    }
    assert answer["usage"]["prompt_tokens"] == len(prompt)
    assert answer["model"] == "tiny"


def test_a_template_says_how_messages_are_read(client, service, model):
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ eos_token }}"
    templated = Model(model.config, model.weights, model.tokenizer, ends=(33,), chat_template=template)
    object.__setattr__(service, "model", templated)
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
    ]
    usage = client.post(CHAT, json={"messages": messages, "max_tokens": 1}).json()["usage"]
    assert usage["prompt_tokens"] == len("<system>Be brief.<user>Hello!")


def test_what_a_message_says_is_no_control_token(idle, model):
    tokenizer, config = BPETokenizer.train(["ab"], 257, ["<|end|>"]), model.config.replace(vocab_size=257)
    template = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    object.__setattr__(idle, "model", Model(config, init(config), tokenizer, chat_template=template))
    (job,) = idle.chat_jobs(Chat(messages=[{"role": "user", "content": "a<|end|>b"}]))
    *said, end = job.token_ids.tolist()
    assert (tokenizer.decode(said), end) == ("a<|end|>b", 256)
    assert 256 not in said


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_is_the_same_answer_in_pieces(client, n):
    whole = client.post(CHAT, json=HELLO | {"n": n}).json()
    streamed = HELLO | {"n": n, "stream": True, "stream_options": {"include_usage": True}}
    pieces, last = events(client.post(CHAT, json=streamed))
    texts, reasons = [""] * n, [None] * n
    for piece in pieces:
        assert piece["object"] == "chat.completion.chunk"
        for choice in piece["choices"]:
            texts[choice["index"]] += choice["delta"]["content"]
            reasons[choice["index"]] = choice["finish_reason"]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert reasons == ["length"] * n
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    assert pieces[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert last == "[DONE]"


def test_a_stop_string_ends_a_text_before_itself(client):
    body = {"prompt": "ab", "max_tokens": 20, "temperature": 0}
    whole = client.post(COMPLETION, json=body).json()["choices"][0]["text"]
    stop = whole[4:6]
    (choice,) = client.post(COMPLETION, json=body | {"stop": [stop]}).json()["choices"]
    assert choice["text"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"


def test_log_probabilities_are_told_for_every_token(client):
    body = HELLO | {"logprobs": True, "top_logprobs": 3, "temperature": 0}
    content = client.post(CHAT, json=body).json()["choices"][0]["logprobs"]["content"]
    assert len(content) == 6
    for token in content:
        assert token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0  # greedy: the likeliest
        assert [each["logprob"] for each in token["top_logprobs"]] == sorted(
            (each["logprob"] for each in token["top_logprobs"]), reverse=True
        )
    told = client.post(COMPLETION, json={"prompt": "ab", "logprobs": 2, "max_tokens": 4}).json()
    assert len(told["choices"][0]["logprobs"]["token_logprobs"]) == 4
    assert all(1 <= len(top) <= 2 for top in told["choices"][0]["logprobs"]["top_logprobs"])


def test_an_answer_follows_a_schema(client):
    pytest.importorskip("llguidance", reason="schemas are an extra")
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    (choice,) = client.post(CHAT, json=HELLO | {"max_tokens": 40, "response_format": wanted}).json()[
        "choices"
    ]
    assert json.loads(choice["message"]["content"]).keys() == {"ok"}
    assert choice["finish_reason"] == "stop"


def test_tokens_and_back(client):
    tokens = client.post("/tokenize", json={"content": "Grüße"}).json()["tokens"]
    assert tokens == list("Grüße".encode())
    assert client.post("/detokenize", json={"tokens": tokens}).json() == {"content": "Grüße"}
    pieces = client.post("/tokenize", json={"content": "ab", "with_pieces": True}).json()["tokens"]
    assert pieces == [{"id": 97, "piece": "a"}, {"id": 98, "piece": "b"}]


def test_it_says_what_it_is_and_how_it_is(client):
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json()["object"] == "model"
    assert client.get("/health").json() == {"status": "ok"}
    client.post(COMPLETION, json={"prompt": "ab", "max_tokens": 3})
    assert 'handgrad_tokens_total{kind="written"} 3' in client.get("/metrics").text
    assert COMPLETION in client.get("/openapi.json").json()["paths"]


def test_the_page_is_there_with_all_it_needs(client):
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("chat.js", "chat.css", "icon.svg"):
        assert f'"static/{name}"' in page.text
        assert client.get(f"/static/{name}").status_code == 200
    assert client.get("/static/../app.py").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (COMPLETION, {}, 400, "prompt"),
        (COMPLETION, {"prompt": ""}, 400, "cannot be empty"),
        (COMPLETION, {"prompt": "a" * 65}, 400, "at most 64 tokens here; this one has 65"),
        (COMPLETION, {"prompt": [999]}, 400, "999"),
        (COMPLETION, {"prompt": "\ud800"}, 400, "not valid UTF-8"),
        (COMPLETION, {"prompt": "a", "echo": True}, 400, "does not have 'echo'"),
        (COMPLETION, {"prompt": "a", "temperature": -1}, 400, "temperature"),
        (COMPLETION, {"prompt": "a", "n": 5}, 400, "writes or holds 4 texts; got 5"),
        (COMPLETION, {"prompt": "a", "model": "other"}, 404, "no model 'other' here"),
        (COMPLETION, {"prompt": "a", "logit_bias": {"300": 1}}, 400, "300"),
        (COMPLETION, {"prompt": "a", "response_format": {"type": "json_schema"}}, 400, "wants a json_schema"),
        (CHAT, {"messages": []}, 400, "messages"),
        (CHAT, HELLO | {"tools": [{"type": "function"}]}, 400, "does not have 'tools'"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role"),
        ("/detokenize", {"tokens": [256]}, 400, "256"),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/health", {}, 405, "Method Not Allowed"),
    ],
)
def test_what_it_does_not_do_it_says_in_a_sentence(client, path, body, status, says):
    response = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code == status
    error = response.json()["error"]
    assert says in error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"prompt": NaN}', b"null"])
def test_no_body_brings_it_down(client, body):
    response = client.post(COMPLETION, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"{", "application/json", "The body is not JSON: Expecting property name"),
        (b'{"prompt": "a"}', "application/x-www-form-urlencoded", "Content-Type: application/json"),
        (b"null", "application/json", "must be a JSON object"),
    ],
)
def test_a_body_that_is_no_json_says_so(client, body, kind, says):
    response = client.post(COMPLETION, content=body, headers={"Content-Type": kind})
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


def test_fields_that_ask_for_nothing_are_no_error(client):
    body = HELLO | {"tools": None, "echo": False, "functions": [], "user": "me", "metadata": {"a": "b"}}
    assert client.post(CHAT, json=body).status_code == 200


def test_a_full_queue_says_when_to_come_back(idle):
    idle.scheduler.submit(*[Job(np.array([1]), None) for _ in range(idle.scheduler.most_at_once)])
    with TestClient(app.create(idle, Rules()), base_url="http://localhost") as client:
        response = client.post(CHAT, json=HELLO | {"stream": True})
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_ends_when_the_client_leaves(idle, stream):
    body = json.dumps(HELLO | {"stream": stream}).encode()
    scope = {
        "type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "root_path": "",
        "scheme": "http", "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        await asyncio.sleep(0)

    asyncio.run(app.create(idle, Rules())(scope, receive, send))
    assert idle.scheduler.counts.ended == {}
    idle.scheduler.step()
    assert idle.scheduler.counts.ended == {"left": 1}


def test_a_server_that_stops_says_so(client, service):
    service.scheduler.close()
    assert client.post(CHAT, json=HELLO).status_code == 503
    assert client.get("/health").status_code == 503


def test_a_failed_text_is_an_error_whole_and_in_a_stream(client, service, caplog, monkeypatch):
    monkeypatch.setattr(service.scheduler._decoding, "read", None)
    assert client.post(CHAT, json=HELLO).status_code == 500
    pieces, _ = events(client.post(CHAT, json=HELLO | {"stream": True}))
    assert pieces[-1]["error"]["code"] == "model"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:8000"}, None),
        ({"host": "127.0.0.1:8000"}, None),
        ({"host": "[::1]:8000"}, None),
        ({"host": "192.168.1.5"}, None),
        ({"host": "Chat.Example:8000"}, None),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, None),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, 403),
        ({"host": "localhost:8000", "origin": "https://evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "null"}, 403),
        ({"host": "localhost:8000", "origin": "http://["}, 403),
        ({"host": "localhost", "content-length": str(1 << 21)}, 413),
        ({"host": "localhost", "content-length": "-1"}, 413),
    ],
)
def test_only_pages_and_names_of_its_own_reach_it(headers, status):
    error = refusal(Rules(hosts=frozenset(["chat.example"])), "/v1/models", headers)
    assert (error and error.status_code) == status


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [
        ("/v1/models", "Bearer sesame", None),
        ("/v1/models", "bearer  sesame", None),
        ("/v1/models", "Bearer sesam", 401),
        ("/v1/models", "Basic sesame", 401),
        ("/metrics", None, 401),
        ("/", None, None),
        ("/static/chat.js", None, None),
        ("/health", None, None),
    ],
)
def test_a_key_opens_everything_but_the_page_which_is_open(path, authorization, status):
    headers = {"host": "localhost"} | ({"authorization": authorization} if authorization else {})
    error = refusal(Rules(api_key="sesame"), path, headers)
    assert (error and error.status_code) == status


def test_a_body_without_a_length_is_bounded_too(service):
    with TestClient(app.create(service, Rules(most_bytes=100)), base_url="http://localhost") as client:
        response = client.post(COMPLETION, content=(b"x" * 60 for _ in range(2)))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"
