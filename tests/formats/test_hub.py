"""Public names, against a hub on this machine that answers as huggingface.co does."""

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from handgrad.errors import UserError
from handgrad.formats import hugging_face, sources
from handgrad.formats.model_folder import Model
from handgrad.model.config import PRESETS
from handgrad.model.init import init

huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

CONFIG = PRESETS["llama"].replace(
    vocab_size=7, context_length=8, n_layers=1, n_heads=2, n_kv_heads=1, d_model=8, d_ff=12
)
COMMITS = {"main": "a" * 40, "v1": "b" * 40}
BROKEN, NOBODY = "500", "401"
STATUS = {"RepoNotFound": 404, "GatedRepo": 403, "RevisionNotFound": 404, "EntryNotFound": 404}
"""By what the hub calls the reason, in X-Error-Code."""


class Hub:
    """What a hub has, and what it was asked for."""

    def __init__(self, files):
        self.files = dict(files)
        """By model, commit and name."""
        self.asked = []
        self.refuses = {}
        """Models by the reason why they are refused."""

    def answer(self, path):
        """Status, headers and content."""
        model, revision, file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path).groups()
        commit = COMMITS.get(revision, revision)
        self.asked.append((revision, file))
        reason = self.refuses.get(model) or self._why_not(model, commit, file)
        if reason:
            more = (
                {"X-Error-Message": "Invalid credentials in Authorization header"} if reason == NOBODY else {}
            )
            return STATUS.get(reason) or int(reason), {"X-Error-Code": reason, **more}, b""
        content = self.files[model, commit, file]
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{hash(content):x}"'}, content

    def _why_not(self, model, commit, file):
        if all(model != known for known, *_ in self.files):
            return "RepoNotFound"
        if all(commit != known for _, known, _ in self.files):
            return "RevisionNotFound"
        return None if (model, commit, file) in self.files else "EntryNotFound"


def served(hub):
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            status, headers, content = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            return content

        def do_GET(self):
            self.wfile.write(self.do_HEAD())

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Those of a model in two revisions, whose contexts differ."""
    found = {}
    for revision, length in (("main", 8), ("v1", 16)):
        config = CONFIG.replace(context_length=length)
        folder = hugging_face.save(Model(config, init(config)), tmp_path_factory.mktemp(revision) / "model")
        for path in folder.iterdir():
            found["owner/name", COMMITS[revision], path.name] = path.read_bytes()
    return found


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """A hub that has owner/name; and the library told where it is."""
    made = Hub(files)
    server = served(made)
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("the network was asked"))


def test_a_public_model_is_fetched_by_its_name_and_then_read_without_a_network(hub, monkeypatch):
    assert sources.read_config("owner/name") == CONFIG
    assert {file for _, file in hub.asked} == {"config.json"}
    assert sources.load("owner/name").config == CONFIG
    assert ("a" * 40, "model.safetensors") in hub.asked  # of the commit that the configuration is of
    offline(monkeypatch)
    assert sources.load("owner/name").config == CONFIG


@pytest.mark.parametrize("revision", ["v1", "b" * 40])
def test_a_revision_is_named_behind_an_at(hub, revision):
    assert sources.load(f"owner/name@{revision}").config.context_length == 16


def test_of_a_model_that_is_not_computed_only_the_configuration_is_fetched(hub):
    hub.files["owner/name", COMMITS["main"], "config.json"] = b'{"model_type": "mamba"}'
    with pytest.raises(UserError, match="model_type = 'mamba'"):
        sources.load("owner/name")
    assert {file for _, file in hub.asked} == {"config.json"}


@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("owner/nme", None, "There is no file or folder owner/nme, and no public model owner/nme. Check"),
        ("owner/name@v9", None, "owner/name has no revision v9. Name a branch, a tag or a commit, or leave"),
        (
            "owner/gated",
            "GatedRepo",
            r"agree to its terms first. Agree at http://\S+/owner/gated, then log in",
        ),
        (
            "owner/down",
            BROKEN,
            r"is not in \S+/cache, and the hub cannot answer: .*500 Internal Server Error",
        ),
        ("owner/who", NOBODY, "cannot be fetched: .*401 Unauthorized.*, and HF_TOKEN where it is set"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_a_sentence(hub, monkeypatch, name, reason, words):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it tries again, and waits longer each time
    hub.refuses[name] = reason
    with pytest.raises(UserError, match=words) as refused:
        sources.load(name)
    assert "\n" not in str(refused.value)


def test_a_model_without_safetensors_is_said(hub):
    del hub.files["owner/name", COMMITS["main"], "model.safetensors"]
    with pytest.raises(UserError, match=r"owner/name has no model\.safetensors\. Take one that is published"):
        sources.load("owner/name")


def test_without_a_network_the_cache_is_named(hub, tmp_path, monkeypatch):
    offline(monkeypatch)
    with pytest.raises(UserError, match=rf"is not in {tmp_path}/cache, and HF_HUB_OFFLINE is set"):
        sources.load("owner/name")


def test_a_network_that_does_not_answer_is_said(hub, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    with pytest.raises(UserError, match=r"no network answers\. Check the name and the network"):
        sources.load("owner/name")
