"""Errors as OpenAI's interface has them, so that its clients understand them."""

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from handgrad.serve.job import Failure

STATUS = {"timeout": 504, "shutdown": 503, "model": 500}
NOT_JSON = "The body must be a JSON object, with the header Content-Type: application/json."
KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(HTTPException):
    """A status, and the sentence that the client shows; `param` names what is wrong in the request."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(status, sentence, headers)
        self.param, self.code = param, code

    @property
    def body(self) -> dict[str, object]:
        otherwise = "invalid_request_error" if self.status_code < 500 else "server_error"
        kind = KINDS.get(self.status_code, otherwise)
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status_code, self.headers)


def of_failure(failure: Failure) -> ApiError:
    """The error that ends a text."""
    return ApiError(STATUS[failure.kind], failure.sentence, code=failure.kind)


def of_status(error: HTTPException) -> ApiError:
    """The framework's own errors: no such page, no such method."""
    return error if isinstance(error, ApiError) else ApiError(error.status_code, f"{error.detail}.")


def of_validation(error: RequestValidationError) -> ApiError:
    """What is wrong in a request, in one sentence: the first of what was found."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {first['ctx']['error']}.", code="invalid_json")
    if first["loc"] == ("body",) and first["type"] == "model_attributes_type":
        return ApiError(400, NOT_JSON, code="invalid_json")
    param = ".".join(str(step)[:60] for step in first["loc"][1:]) or None
    if first["type"] == "extra_forbidden":
        sentence = f"This server does not have {param!a}, and does not pass over it. Leave it out."
        return ApiError(400, sentence, param=param, code="unsupported_parameter")
    sentence = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{param}: {sentence}" if param else sentence, param=param, code="invalid_value")
