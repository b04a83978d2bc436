"""What every application of ours has: a page of its own, and errors in sentences."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from handgrad.errors import UserError
from handgrad.serve.errors import ApiError, of_status, of_validation

POLICY = ("default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'")
"""Nothing from elsewhere, and in no frame."""


def add_page(app: FastAPI, static: Path, policy: tuple[str, ...] = ()) -> None:
    """The folder `static`, and its index.html at the root; `policy` adds to the Content-Security-Policy."""
    headers = {
        "Content-Security-Policy": "; ".join((*POLICY, *policy)),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    app.mount("/static", StaticFiles(directory=static))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(static / "index.html", headers=headers)


def explain_errors(app: FastAPI) -> None:
    """Every error is said as OpenAI's interface says it."""

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Response:
        return of_status(error).response

    @app.exception_handler(RequestValidationError)
    def validation_error(request: Request, error: RequestValidationError) -> Response:
        return of_validation(error).response

    @app.exception_handler(UserError)
    def user_error(request: Request, error: UserError) -> Response:
        return ApiError(400, str(error), code="invalid_value").response

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> Response:
        return ApiError(500, "The server failed at this request: its log says why.").response
