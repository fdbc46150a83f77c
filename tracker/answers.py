"""Answers of the edge's endpoints: one shape of error everywhere. Called by api.py."""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tracker.report_fields import FieldError

NO_STORE = {"Cache-Control": "no-store"}


def unavailable() -> FieldError:
    return FieldError(503, "not_recorded", "cannot record now; nothing was stored, try again")


def error_body(error: FieldError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "param": error.param}}


def json_response(content: Any, status: int, headers: Mapping[str, str] = NO_STORE) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json", headers=dict(headers))


async def field_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FieldError)
    return json_response(error_body(error), error.status, _headers(error))


def _headers(error: FieldError) -> dict[str, str]:
    headers = dict(NO_STORE)
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def json_head(content: Any, status: int, headers: Mapping[str, str] = NO_STORE) -> tuple[bytes, bytes]:
    """The same as `json_response` for who goes the short way (server.py): status line and headers, and the body."""
    return _head(status, tuple(headers.items())), orjson.dumps(content)


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-type: application/json"]
    lines += [f"{name.lower()}: {value}" for name, value in headers]
    return "".join(f"{line}\r\n" for line in lines).encode()


def error_head(error: FieldError) -> tuple[bytes, bytes]:
    return json_head(error_body(error), error.status, _headers(error))


async def not_recorded(request: Request, _error: Exception) -> Response:
    return await field_error(request, unavailable())


async def http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {
        404: ("not_found", "there is nothing here"),
        405: ("method_not_allowed", "this method is not served here"),
    }
    code, message = codes.get(error.status_code, ("request_malformed", error.detail))
    body = {"error": {"code": code, "message": message, "param": None}}
    return JSONResponse(body, error.status_code, headers={**(error.headers or {}), **NO_STORE})


def defect() -> FieldError:
    """A defect of ours; whoever meets it logs it."""
    return FieldError(500, "internal_error", "this should not happen")


async def broken(_request: Request, _error: Exception) -> Response:
    return json_response(error_body(defect()), 500)


async def gone(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("", 400)
