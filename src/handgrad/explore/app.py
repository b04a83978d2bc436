"""The explorer's HTTP interface: every function parses, asks the explorer, and hands on what comes back."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi import Path as UrlPath
from fastapi.responses import Response, StreamingResponse

from handgrad.explore import experiments, formulas, learning
from handgrad.explore.arrays import Kind, One, What
from handgrad.explore.bodies import Ablate, Attribute, Draw, Neuron, Patch, Question, ScoreBody, Shares, Why
from handgrad.explore.explorer import Explorer, Json
from handgrad.explore.held import ForgottenError
from handgrad.serve import web
from handgrad.serve.errors import ApiError
from handgrad.serve.guard import Guard, Rules

STATIC = Path(__file__).parent / "static"
POLICY = ("style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:")
"""KaTeX places what it sets by inline styles."""
Id = Annotated[str, UrlPath(max_length=64)]
Site = Annotated[str, Query(max_length=200)]
Few = Annotated[int, Query(ge=1, le=50)]
Side = Annotated[int, Query(ge=1, le=1024)]
"""Of a picture, in cells."""


def create(explorer: Explorer, rules: Rules) -> FastAPI:
    """The application that shows what `explorer` knows."""
    app = FastAPI(title="handgrad explore", docs_url=None, redoc_url=None)
    app.add_middleware(Guard, rules=rules)
    web.explain_errors(app)
    web.add_page(app, STATIC, POLICY)

    @app.exception_handler(ForgottenError)
    def forgotten(request: Request, error: ForgottenError) -> Response:
        return ApiError(404, "This trace is held no longer. Ask anew.", code="forgotten").response

    _add_traces(app, explorer)
    _add_explanations(app, explorer)
    _add_run(app, explorer)
    return app


def _add_traces(app: FastAPI, explorer: Explorer) -> None:
    @app.get("/api/model")
    def model() -> Json:
        return explorer.about()

    @app.get("/api/formula/{name}")
    def formula(name: Id) -> dict[str, str]:
        return formulas.describe(name)

    @app.post("/api/trace")
    def ask(body: Question) -> Json:
        return explorer.ask(body)

    @app.get("/api/trace/{key}/stats")
    def statistics(key: Id, gradient: bool = False) -> Json:
        return explorer.statistics(key, gradient=gradient)

    @app.get("/api/trace/{key}/sizes")
    def sizes(key: Id, site: Site, gradient: bool = False) -> list[float]:
        return explorer.sizes(key, site, gradient=gradient)

    @app.get("/api/trace/{key}/array")
    def array(
        key: Id, site: Site, what: What = "value", index: Annotated[str, Query(max_length=200)] = ""
    ) -> Response:
        return Response(explorer.array(key, site, what, index), media_type="application/octet-stream")

    @app.get("/api/trace/{key}/heads")
    def small_heads(key: Id, last: Side, side: Side, kind: Kind = "probs", what: One = "value") -> Response:
        found = explorer.small_heads(key, kind, what, last, side)
        return Response(found, media_type="application/octet-stream")

    @app.post("/api/next")
    def next_tokens(body: Draw) -> Json:
        return explorer.next(body)

    @app.post("/api/sample")
    def sample(body: Draw) -> Json:
        return explorer.sample(body)


def _add_explanations(app: FastAPI, explorer: Explorer) -> None:
    @app.post("/api/attribute")
    async def attribute(body: Attribute) -> Response:
        return await experiments.answer(lambda report: explorer.attribute(body, report))

    @app.post("/api/ablate")
    async def ablate(body: Ablate) -> Response:
        return await experiments.answer(lambda report: explorer.ablate(body, report))

    @app.post("/api/patch")
    async def patch(body: Patch) -> Response:
        return await experiments.answer(lambda report: explorer.patch(body, report))

    @app.get("/api/trace/{key}/lens")
    def lens(key: Id, n: Few = 5, last: Annotated[int, Query(ge=1, le=4096)] = 64) -> Json:
        return explorer.lens(key, n, last)

    @app.get("/api/trace/{key}/words")
    def words(key: Id, position: int, n: Few = 5) -> list[Json]:
        return explorer.words(key, n, position)

    @app.post("/api/shares")
    def shares(body: Shares) -> list[Json]:
        return explorer.shares(body)

    @app.post("/api/score")
    def score(body: ScoreBody) -> Json:
        return explorer.score(body)


def _add_run(app: FastAPI, explorer: Explorer) -> None:
    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return {**learning.describe(explorer.run_folder()), "checkpoints": explorer.held.checkpoints()}

    @app.post("/api/neuron")
    def neuron(body: Neuron) -> list[Json]:
        return explorer.neuron(body)

    @app.post("/api/why")
    def why(body: Why) -> Json:
        return explorer.why(body)

    @app.get("/api/run/live")
    def live() -> StreamingResponse:
        return StreamingResponse(learning.live(explorer.run_folder()), media_type="text/event-stream")
