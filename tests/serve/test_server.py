"""A server as others meet it: the official client against it, what it says of itself, how it ends."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

import handgrad
from handgrad import cli
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.model.init import init
from handgrad.serve import server
from handgrad.serve.guard import Rules
from tests.serve.running import running


def test_the_official_client_works_unchanged(service):
    openai = pytest.importorskip("openai", reason="wants the openai client")
    with running(service, Rules(api_key="sesame")) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=0)
        assert [model.id for model in client.models.list()] == ["tiny"]
        asked = dict(model="tiny", messages=[{"role": "user", "content": "Hi"}], seed=4, max_tokens=5)
        answer = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
        assert answer.usage.completion_tokens == len(answer.choices[0].logprobs.content) == 5
        said = answer.choices[0].message
        pieces = list(client.chat.completions.create(**asked, stream=True))
        assert "".join(piece.choices[0].delta.content for piece in pieces) == said.content
        again = [*asked["messages"], said, {"role": "user", "content": "Bye"}]  # its own message comes back
        client.chat.completions.create(**asked | {"messages": again, "max_tokens": 1})
        text = client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=3, seed=0)
        assert [choice.index for choice in text.choices] == [0, 1]
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            client.completions.create(model="gpt", prompt="a")
        with pytest.raises(openai.BadRequestError, match="does not have 'tools'"):
            client.chat.completions.create(**asked, tools=[{"type": "function", "function": {"name": "f"}}])
        with pytest.raises(openai.AuthenticationError, match="API key"):
            openai.OpenAI(base_url=f"{url}/v1", api_key="other", max_retries=0).models.list()


def test_it_says_where_it_is_and_whether_it_is_open(idle):
    options = server.Options(slots=2, waiting=2)
    with server.listen("127.0.0.1", 0) as listening:
        said = "\n".join(server.about(idle, options, listening, Rules()))
        assert f"http://localhost:{listening.getsockname()[1]}/v1" in said
        assert "2 texts at once, 64 tokens each" in said
        assert max(map(len, said.splitlines())) < 80  # an address that is broken cannot be clicked
        assert "other machines" not in said
    with server.listen("0.0.0.0", 0) as listening:
        everybody = "\n".join(server.about(idle, options, listening, Rules()))
        assert "everybody: there is no API key" in everybody
        assert f"http://localhost:{listening.getsockname()[1]}/v1" in everybody
        closed = "\n".join(server.about(idle, options, listening, Rules(api_key="sesame")))
        assert "whoever has the API key" in closed
        assert "sesame" not in closed


def test_a_port_that_is_taken_is_said():
    with server.listen("127.0.0.1", 0) as listening:
        listening.listen()
        port = listening.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1, port {port}"):
            server.listen("127.0.0.1", port)
    with pytest.raises(UserError, match="from 0 to 65535"):
        server.listen("127.0.0.1", 70_000)


def test_it_says_how_much_memory_its_cache_takes(idle):
    told = {}
    with server.listen("127.0.0.1", 0) as listening:
        for cache in ("float32", "bfloat16", "int8"):
            options = server.Options(slots=2000, cache=cache)
            (line,) = (s for s in server.about(idle, options, listening, Rules()) if "Keys and values" in s)
            told[cache] = line.split()[6]
            said = server.cache_bytes(idle.model, options, idle.capacity)
            assert told[cache] == f"{said / 1e6:,.1f}"
    assert len(set(told.values())) == 3


def test_texts_that_do_not_fit_into_memory_are_refused_by_their_number(model):
    with pytest.raises(UserError, match=r"1000000000 texts of 64 tokens needs .* GB .*Take fewer --slots"):
        server.service(model, "tiny", server.Options(slots=1_000_000_000))


@pytest.mark.parametrize(
    "wrong", [{"slots": 0}, {"waiting": -1}, {"seconds": 0}, {"slots": 1.5}, {"context": 0}]
)
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        server.Options(**wrong)


def test_without_its_extra_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "handgrad.serve.server")
    monkeypatch.delattr("handgrad.serve.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r'pip install "handgrad\[serve\]"'):
        cli.serve.serve("runs/quick-1")


def test_a_signal_ends_it_after_the_answer_in_progress(model, tmp_path):
    config = model.config.replace(context_length=1024)  # else it has written all before one looks
    folder = handgrad.save(Model(config, init(config, 1), model.tokenizer), tmp_path / "model")
    command = [sys.executable, "-m", "handgrad", "serve", folder, "--port", "0", "--engine", "reference"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+", process.stderr.readline())[0]
        body = json.dumps({"prompt": "a", "max_tokens": 1000, "seed": 1}).encode()
        request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        with ThreadPoolExecutor() as others:
            answer = others.submit(lambda: json.load(urllib.request.urlopen(request, timeout=20)))
            while "handgrad_texts_running 1" not in metrics(url):
                assert not answer.done()
            process.send_signal(signal.SIGINT)
            assert answer.result()["usage"]["completion_tokens"] == 1000
        assert process.wait(20) == 0
        said = process.stderr.read()
        assert "Stopping: what is being written has 10 seconds." in said
        assert "Traceback" not in said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def metrics(url):
    return urllib.request.urlopen(f"{url}/metrics", timeout=20).read().decode()
