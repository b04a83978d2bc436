"""The HTTP interface: OpenAI's /v1, llama.cpp's /tokenize and /detokenize, a page, health and metrics.

Every function parses, asks the service, and forms what comes back.
"""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool

from handgrad.serve import forms, responses, web
from handgrad.serve.answer import Answer
from handgrad.serve.bodies import Chat, Completion, Detokenize, Tokenize
from handgrad.serve.errors import ApiError
from handgrad.serve.forms import Envelope, Form, Json
from handgrad.serve.guard import Guard, Rules
from handgrad.serve.responses import Wanted
from handgrad.serve.service import Service

STATIC = Path(__file__).parent / "static"


def create(service: Service, rules: Rules) -> FastAPI:
    """The application that offers `service`."""
    app = FastAPI(title="handgrad", docs_url=None, redoc_url=None)
    app.add_middleware(Guard, rules=rules)
    web.explain_errors(app)
    web.add_page(app, STATIC)
    _add_state(app, service)
    _add_tokenizer(app, service)
    _add_models(app, service)
    _add_writing(app, service)
    return app


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    def health() -> Json:
        if service.scheduler.is_closing:
            raise ApiError(503, "The server is stopping.", code="shutdown")
        return {"status": "ok"}

    @app.get("/metrics")
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.scheduler.metrics(), media_type="text/plain; version=0.0.4")


def _add_tokenizer(app: FastAPI, service: Service) -> None:
    @app.post("/tokenize")
    def tokenize(body: Tokenize) -> Json:
        tokens = service.token_ids(body.content, starts=body.add_special).tolist()
        if body.with_pieces:
            return {"tokens": [{"id": token, "piece": service.shown(token)} for token in tokens]}
        return {"tokens": tokens}

    @app.post("/detokenize")
    def detokenize(body: Detokenize) -> Json:
        return {"content": service.tokenizer.decode(body.tokens)}


def _add_models(app: FastAPI, service: Service) -> None:
    about = {"id": service.name, "object": "model", "created": service.created, "owned_by": "handgrad"}

    @app.get("/v1/models")
    def models() -> Json:
        return {"object": "list", "data": [about]}

    @app.get("/v1/models/{name:path}")
    def model(name: str) -> Json:
        service.require_name(name)
        return about


def _add_writing(app: FastAPI, service: Service) -> None:
    @app.post("/v1/completions", response_model=None)
    async def completions(body: Completion, request: Request) -> Response:
        answer = Answer(service.scheduler, await run_in_threadpool(service.completion_jobs, body))
        return await _respond(service, forms.COMPLETION, body, answer, request)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: Chat, request: Request) -> Response:
        answer = Answer(service.scheduler, await run_in_threadpool(service.chat_jobs, body))
        return await _respond(service, forms.CHAT, body, answer, request)


async def _respond(
    service: Service, form: Form, body: Completion | Chat, answer: Answer, request: Request
) -> Response:
    tells = body.alternatives is not None
    wanted = Wanted(Envelope.new(form, service.name), service.shown, tells, body.stream_options.include_usage)
    return responses.events(wanted, answer) if body.stream else await responses.whole(wanted, answer, request)
