"""The OpenAPI document of the edge, served at /openapi.json: every public endpoint, what it takes and what it answers.

Kept by hand, here and in openapi_schemas.py, out of the lists that the code itself checks by: parameters of a sale,
patterns, currencies, limits. Tests hold it against the routes, against the error codes in the source, and, by
schemathesis, against a running edge. Pure; called once by each worker.
"""

from collections.abc import Mapping
from typing import Any

from schemas.settings import Settings
from schemas.version import ENGINE_VERSION
from tracker import openapi_schemas as schemas

Json = dict[str, Any]

_DESCRIPTION = """\
Clicks, views and sales of an affiliate program. Parameters that are not named here are ignored; those of a click or a
sale are kept with it. Every error has one shape, and no 2xx is answered for what was not recorded, but for the pixel,
whose image is shown whatever happens. Every error's code is explained in docs/merchants.md."""

_ANYWHERE = {
    400: ("request_malformed",),
    405: ("method_not_allowed",),
    413: ("body_too_large",),
    414: ("url_too_long",),
    429: ("too_many_requests",),
    431: ("headers_too_large",),
    500: ("internal_error",),
}
"""What any request can be answered."""

_OF_A_SALE = {
    400: (
        *(f"{name}_malformed" for name in schemas.SALE_FIELDS),
        *("program_missing", "order_id_missing", "payout_not_accepted"),
        *("order_id_ambiguous", "click_id_ambiguous", "goal_ambiguous"),
    ),
    404: ("program_unknown",),
    422: ("order_id_invalid", "ts_in_future", "ts_too_old"),
    503: ("not_recorded",),
}
_OF_A_REVERSAL = {
    400: (
        *(f"{name}_malformed" for name in schemas.REVERSAL_FIELDS),
        *("program_missing", "order_id_missing", "reversal_id_missing", "reversal_ambiguous"),
    ),
    404: ("program_unknown", "conversion_unknown"),
    409: ("reversal_conflict",),
    422: ("order_id_invalid",),
    503: ("not_recorded",),
}
_OF_JSON = {400: ("json_malformed",)}
_OF_A_BATCH = {400: ("json_malformed",), 413: ("batch_too_large",)}
_OF_A_KEY = {401: ("key_invalid",), 403: ("key_kind", "address_not_allowed")}
_OF_A_SIGNATURE = {401: ("signature_invalid", "signature_stale"), 503: ("not_recorded",)}
_NO_REVERSAL = {400: ("reversal_id_not_accepted",)}
_CONFLICT = {409: ("conversion_conflict",)}

Errors = Mapping[int, tuple[str, ...]]


def document(settings: Settings) -> Json:
    """The document, as plain JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "lastcookie", "version": ENGINE_VERSION, "description": _DESCRIPTION},
        "servers": [{"url": settings.server.public_url}],
        "tags": [
            {"name": "clicks", "description": "For readers: links and ads."},
            {"name": "browsers", "description": "For the merchant's pages: claims that a server has to confirm."},
            {"name": "servers", "description": "For the merchant's servers, with a key."},
            {"name": "about", "description": "The interface itself."},
        ],
        "paths": _paths(settings),
        "components": {
            "schemas": schemas.schemas(settings),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`lastcookie key MERCHANT`; an affiliate's (`--kind affiliate`) explains too",
                },
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "webhook-signature",
                    "description": (
                        "Standard Webhooks: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, with"
                        " `webhook-id`, `webhook-timestamp` (s) and, in `Lastcookie-Key`, the id of the key:"
                        " `lastcookie key MERCHANT --kind signing`"
                    ),
                },
                "token": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "`lastcookie key MERCHANT --kind postback`; it may also stand in the body",
                },
            },
        },
    }


def _paths(settings: Settings) -> Json:
    batch_items = settings.limits.batch_items
    late_ms = settings.conversions.max_late
    sale_query = [_query(name, schemas.as_text(name), late_ms) for name in schemas.SALE_FIELDS]
    sale_any = [_query(name, {"type": "string"}, late_ms) for name in schemas.SALE_FIELDS]
    return {
        "/c/{code}": _click("A click on a short link", [_path("code", schemas.LINK_CODE)]),
        "/a/{affiliate}/{program}": _click(
            "A click on a link that anybody can write by hand",
            [_path("affiliate", schemas.ID), _path("program", schemas.ID)],
        ),
        "/v/{code}.gif": {
            method: _operation(
                "clicks",
                "An ad that was seen",
                {200: _image("The image, whatever happens, also of a link that is unknown")},
                parameters=[_path("code", _TEXT), *_OF_A_CLICK],
            )
            for method in ("get", "head")
        },
        "/pixel.gif": {
            "get": _operation(
                "browsers",
                "A sale, by an image on the shop's last page",
                {200: _image("The image, whatever happens; what was wrong is kept for the merchant, in `reports`")},
                parameters=sale_any,
            )
        },
        "/tag.js": {
            "get": _operation(
                "browsers",
                "The merchant's tag",
                {200: _answer("The script, without dependencies", {"text/javascript": {"type": "string"}})},
            )
        },
        "/v1/events": {
            "post": _operation(
                "browsers",
                "A sale, by the tag",
                {204: _nothing("Recorded")},
                {**_OF_A_SALE, 403: ("origin_not_allowed",)},
                _OF_JSON,
                body=_body("Sale", "text/plain", "application/json"),
                description="A page of any program's allowed_hosts may read the answer, be it an error.",
            ),
            "options": _operation("browsers", "May this page report?", {204: _nothing("By the headers of CORS")}),
        },
        "/postback": {
            "get": _operation(
                "servers",
                "A sale, as other trackers' servers report it",
                {200: _json("What became of it", "Recorded")},
                *(_OF_A_SALE, _OF_A_KEY, _CONFLICT),
                parameters=sale_query,
                security=("token",),
            ),
            "post": _operation(
                "servers",
                "The same, in the body or the query",
                {200: _json("What became of it", "Recorded")},
                *(_OF_A_SALE, _OF_A_KEY, _CONFLICT, _OF_JSON),
                body=_body("Sale", "application/json", "application/x-www-form-urlencoded"),
                security=("token",),
            ),
        },
        "/v1/conversions": {
            "post": _batch("Sales", "Sale", batch_items, _OF_A_SALE, _NO_REVERSAL, _CONFLICT),
        },
        "/v1/reversals": {
            "post": _batch("Refunds", "Reversal", batch_items, _OF_A_REVERSAL),
        },
        "/v1/conversions/{program}/{order_id}/explain": {
            "get": _operation(
                "servers",
                "Why a sale went where it went",
                {200: _json("To a merchant everything, to an affiliate what concerns him", "Explanation")},
                {
                    400: ("program_malformed", "order_id_malformed", "goal_malformed"),
                    404: ("program_unknown", "conversion_unknown", "not_found"),
                    422: ("order_id_invalid", "explanation_too_large"),
                    503: ("explain_unavailable",),
                },
                _OF_A_KEY,
                parameters=[
                    _path("program", schemas.ID),
                    _path("order_id", schemas.ORDER_ID),
                    _query("goal", schemas.as_text("goal"), late_ms),
                ],
                security=("key",),
            )
        },
        "/openapi.json": {
            "get": _operation(
                "about", "This document", {200: _answer("OpenAPI 3.1", {"application/json": {"type": "object"}})}
            )
        },
    }


def _operation(
    tag: str,
    summary: str,
    answers: Mapping[int, Json],
    *errors: Errors,
    parameters: list[Json] | None = None,
    body: Json | None = None,
    security: tuple[str, ...] = (),
    description: str | None = None,
) -> Json:
    operation: Json = {"tags": [tag], "summary": summary}
    if description:
        operation["description"] = description
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = body
    if security:
        operation["security"] = [{scheme: []} for scheme in security]
    responses = {str(status): answer for status, answer in answers.items()}
    for status, codes in sorted(_united(_ANYWHERE, *errors).items()):
        responses.setdefault(str(status), _error(status, codes))
    operation["responses"] = responses
    return operation


def _united(*many: Errors) -> dict[int, tuple[str, ...]]:
    codes: dict[int, tuple[str, ...]] = {}
    for errors in many:
        for status, names in errors.items():
            codes[status] = tuple(dict.fromkeys((*codes.get(status, ()), *names)))
    return codes


def _click(summary: str, names: list[Json]) -> Json:
    answers = {
        302: {
            "description": "To the destination, or of a dead link to the program's fallback_url",
            "headers": {"Location": {"required": True, "schema": {"type": "string"}}},
        },
        404: _answer("A page: the link is unknown, or not active any more", {"text/html": {"type": "string"}}),
        405: _nothing("Clicks are GET or HEAD"),
        503: _nothing("A prefetch, which counts nothing; or no link is known yet (`Retry-After`)"),
    }
    return {
        method: _operation("clicks", summary, answers, parameters=[*names, _query("to", _TEXT), *_OF_A_CLICK])
        for method in ("get", "head")
    }


def _batch(summary: str, schema: str, most: int, *of_an_item: Errors) -> Json:
    errors: list[Errors] = [_OF_A_BATCH, _OF_A_KEY, _OF_A_SIGNATURE, *of_an_item]
    return _operation(
        "servers",
        f"{summary}, one or up to {most:,}",
        {202: _json("Recorded, each as it says", "Results"), 207: _json("Some were not recorded", "Results")},
        *errors,
        body=_body(f"{schema}s", "application/json"),
        security=("key", "signature"),
    )


def _path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: Json, late_ms: int = 0) -> Json:
    described = schemas.described(name, late_ms)
    return {"name": name, "in": "query", "schema": schema, **({"description": described} if described else {})}


_TEXT: Json = {"type": "string"}
_OF_A_CLICK = [
    *(_query(name, _TEXT) for name in ("sub1", "sub2", "sub3", "sub4", "sub5", "ref")),
    _query("consent", _TEXT),
]


def _body(schema: str, *media_types: str) -> Json:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"required": True, "content": dict.fromkeys(media_types, content)}


def _answer(description: str, content: Mapping[str, Json]) -> Json:
    return {"description": description, "content": {name: {"schema": schema} for name, schema in content.items()}}


def _json(description: str, schema: str) -> Json:
    return _answer(description, {"application/json": {"$ref": f"#/components/schemas/{schema}"}})


def _image(description: str) -> Json:
    return _answer(description, {"image/gif": {"type": "string", "contentEncoding": "binary"}})


def _nothing(description: str) -> Json:
    return {"description": description}


def _error(status: int, codes: tuple[str, ...]) -> Json:
    described = ", ".join(f"`{code}`" for code in codes)
    code = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    answer = _answer(described, {"application/json": {"allOf": [{"$ref": "#/components/schemas/Error"}, code]}})
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"required": True, "schema": {"type": "string"}, "description": "Seconds"}}
    return answer
