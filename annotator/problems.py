"""Errors as answers: each has a status, a word for programs, a message and a remedy."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from annotator.messages import Problem
from annotator.wire import field_path
from storage.queue.errors import (
    IdempotencyConflict,
    NotHeld,
    QueueMoved,
    QueueUnavailable,
    StaleLease,
    UnknownItem,
)

_MAX_MESSAGE = 500
_REMEDIES = {
    400: "Correct the request; /docs shows what each call expects.",
    404: "Check the address; /docs lists all there are.",
    405: "Use a method that /docs lists for this address.",
    413: "Send less at once.",
    422: "Correct the field that the message names; /docs shows what is expected.",
}


class ProblemError(HTTPException):
    """An answer other than success, raised anywhere while a request is handled.

    An HTTPException, because FastAPI hides any other error that comes while it reads a body.
    """

    def __init__(
        self,
        status: int,
        error: str,
        message: str,
        remedy: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self._error = error
        self._remedy = remedy

    def response(self) -> Response:
        """The answer."""
        return problem(self.status_code, self._error, self.detail, self._remedy, self.headers)


def problem(
    status: int, error: str, message: str, remedy: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer of the form `Problem`."""
    body = Problem(error=error, message=_plain(message), remedy=remedy)
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def invalid(message: str) -> ProblemError:
    """422 for a request whose content cannot be accepted; the message names the field."""
    return ProblemError(422, "invalid", message, _REMEDIES[422])


def unknown(what: str) -> ProblemError:
    """404 for something of ours that there is not."""
    return ProblemError(404, "unknown", what, "Claim an item and use the ids it comes with.")


def install(app: FastAPI, retry_after_s: int) -> None:
    """Make `app` answer every error in this form."""

    async def unavailable(_: Request, error: Exception) -> Response:
        return problem(
            503,
            "unavailable",
            str(error),
            "Nothing acknowledged is lost: keep the draft and send the same request again.",
            {"Retry-After": str(retry_after_s)},
        )

    async def moved(_: Request, error: Exception) -> Response:
        return problem(
            503,
            "moved",
            str(error),
            "Keep the draft and tell whoever runs the server; then send the same request again.",
            {"Retry-After": str(retry_after_s)},
        )

    app.add_exception_handler(QueueUnavailable, unavailable)
    app.add_exception_handler(QueueMoved, moved)
    app.add_exception_handler(StaleLease, _stale)
    app.add_exception_handler(NotHeld, _not_held)
    app.add_exception_handler(UnknownItem, _unknown_item)
    app.add_exception_handler(IdempotencyConflict, _conflict)
    app.add_exception_handler(ProblemError, _as_said)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)


async def _stale(_: Request, error: Exception) -> Response:
    return problem(409, "stale_lease", str(error), "Keep the draft and claim the next item.")


async def _not_held(_: Request, error: Exception) -> Response:
    return problem(409, "not_held", str(error), "Look again: it was given back or finished.")


async def _unknown_item(_: Request, error: Exception) -> Response:
    return unknown(str(error)).response()


async def _conflict(_: Request, error: Exception) -> Response:
    return problem(
        422, "idempotency_conflict", str(error), "Make a new Idempotency-Key for each submission."
    )


async def _as_said(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError), "registered for ProblemError"
    return error.response()


async def _not_valid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for RequestValidationError"
    first = error.errors()[0]
    location = first["loc"]
    inside = tuple(location[1:]) if location[0] in ("body", "path", "query", "header") else location
    rule = str(first["msg"]).removeprefix("Value error, ")
    return invalid(f"{field_path(inside) or location[0]}: {rule}").response()


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for HTTPException"
    status = HTTPStatus(error.status_code)
    word = status.phrase.lower().replace(" ", "_")
    remedy = _REMEDIES.get(status, _REMEDIES[400])
    return problem(status, word, str(error.detail), remedy, error.headers)


def _plain(message: str) -> str:
    # Quoted input may hold half a surrogate pair, which no answer could be encoded with.
    return message.encode("utf-8", "backslashreplace").decode("utf-8")[:_MAX_MESSAGE]
