"""Who may ask: an ASGI layer before everything else, which reads no more of a request than it has to.

A page from elsewhere must not use the visitor's own server. Browsers say where a page comes from (Origin),
and a name that was made to point here (DNS rebinding) shows in Host: what does not fit is refused. An address
in numbers cannot be rebound.
"""

import hmac
import ipaddress
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handgrad.serve.errors import ApiError

PUBLIC = ("/", "/health")
"""What needs no key, besides /static: the page, which asks for one, and whether the server is there."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a request must fulfil."""

    hosts: frozenset[str] = frozenset()
    """Names under which the server may be reached, besides localhost and addresses in numbers."""
    api_key: str | None = None
    most_bytes: int = 1 << 20


class Guard:
    """`app`, for requests that fulfil `rules`."""

    def __init__(self, app: ASGIApp, rules: Rules):
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        error = refusal(self._rules, scope["path"], headers)
        if error is not None:
            await error.response(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive, self._rules.most_bytes), send)


def refusal(rules: Rules, path: str, headers: dict[str, str]) -> ApiError | None:
    """Why a request is refused, from its path and headers; None where it may pass."""
    host, origin = headers.get("host", "").lower(), headers.get("origin")
    if not _is_known(_name(host), rules.hosts):
        sentence = (
            f"This server does not answer to the name {_name(host)[:100]!a}. Use localhost or an address in "
            f"numbers, or start it with --allow-host and that name."
        )
        return ApiError(403, sentence, code="host_not_allowed")
    if origin is not None and origin.lower().partition("://")[2] != host:
        return ApiError(403, "Pages from elsewhere may not use this server.", code="origin_not_allowed")
    if rules.api_key is not None and not _is_public(path) and not _has_key(headers, rules.api_key):
        sentence = "This server wants its API key, in the header Authorization: Bearer KEY."
        return ApiError(401, sentence, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
    length = headers.get("content-length", "0")
    if not length.isdigit() or len(length) > 15 or int(length) > rules.most_bytes:
        return _too_long(rules.most_bytes)
    return None


def _name(host: str) -> str:
    """A Host header without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_known(name: str, hosts: frozenset[str]) -> bool:
    if name == "localhost" or name.endswith(".localhost") or name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith("/static/")


def _has_key(headers: dict[str, str], api_key: str) -> bool:
    """Whether the key is right: digests are compared, in a time that tells nothing of either."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(_digest(given.strip()), _digest(api_key))
    return same and scheme.lower() == "bearer"


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def _too_long(most_bytes: int) -> ApiError:
    return ApiError(413, f"A request has at most {most_bytes:,} bytes.", code="request_too_large")


def _bounded(receive: Receive, most_bytes: int) -> Receive:
    """`receive`, which refuses a body that goes on and on."""
    n_bytes = 0

    async def bounded() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > most_bytes:
            raise _too_long(most_bytes)
        return message

    return bounded
