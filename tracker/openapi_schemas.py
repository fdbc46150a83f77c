"""What the OpenAPI document says of values: parameters of a sale and of a reversal, and the shapes of answers.

Names, patterns and bounds are those that report_fields.py reads by. Pure; called by openapi.py.
"""

from typing import Any

from schemas.currencies import EXPONENTS
from schemas.durations import format_duration
from schemas.settings import Settings
from tracker.report_fields import AHEAD_MS_MAX, ALIASES, AMOUNT, GOAL, KNOWN, NAME
from tracker.reports import Outcome

Json = dict[str, Any]

SALE_FIELDS = KNOWN
REVERSAL_FIELDS = ("program", "order_id", "goal", "reversal_id", "amount", "items", "reason")
_INTEGER_MAX = 99_999_999_999_999


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _printable(most: int) -> Json:
    return {"type": "string", "minLength": 1, "maxLength": most}


ID: Json = {"type": "string", "pattern": _whole(NAME.pattern)}
LINK_CODE: Json = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
ORDER_ID = _printable(128)
_AMOUNT: Json = {"type": "string", "pattern": _whole(AMOUNT.pattern)}
_ITEMS_MAX = 500

_TEXTS: dict[str, Json] = {
    "program": ID,
    "order_id": ORDER_ID,
    "amount": _AMOUNT,
    "currency": {"type": "string", "enum": sorted(EXPONENTS)},
    "goal": {"type": "string", "pattern": _whole(GOAL.pattern)},
    "click_id": _printable(255),
    "customer_id": _printable(128),
    "coupon": _printable(64),
    "channel": _printable(64),
    "ts": {"type": "string"},
    "items": {"type": "string", "contentMediaType": "application/json"},
}
_NEEDED = ("program", "order_id")


def as_text(name: str) -> Json:
    """A parameter of a sale as a query has it: text, and empty where it is not needed."""
    schema = _TEXTS[name]
    return schema if name in _NEEDED else {"anyOf": [schema, {"const": ""}]}


def described(name: str, late_ms: int) -> str:
    """What a parameter is, in a line; '' where its name says it. `late_ms`: how far back a sale may lie."""
    aliases = " or ".join(alias for alias, own in ALIASES.items() if own == name)
    texts = {
        "to": "A deep link; followed if its host is among the program's `allowed_hosts`",
        "consent": "`0`: no cookie, no click id, no visitor is stored",
        "ref": "The partner's own click id",
        "order_id": "Printable; no placeholder",
        "amount": "What the goods cost, of which commissions are counted",
        "goal": "Default: sale",
        "click_id": "Out of the landing page's URL",
        "customer_id": "The merchant's own name for the customer; printable",
        "coupon": "The code that the customer used",
        "channel": "The merchant's own channel that led to the sale",
        "items": f"A JSON array of up to {_ITEMS_MAX} items",
        "ts": (
            f"When: epoch in ms or s, or RFC 3339; default now. At most {format_duration(AHEAD_MS_MAX)} ahead"
            f" and {format_duration(late_ms)} behind"
        ),
    }
    text = texts.get(name, "A sub-id; 255 bytes are kept" if name.startswith("sub") else "")
    return f"{text}. Also called {aliases}" if aliases else text


def schemas(settings: Settings) -> Json:
    """The components that the paths refer to."""
    most, late_ms = settings.limits.batch_items, settings.conversions.max_late
    return {
        "Error": _object(
            {
                "error": _object(
                    {
                        "code": {"type": "string"},
                        "message": {"type": "string"},
                        "param": {"type": ["string", "null"], "description": "The parameter at fault"},
                    }
                )
            }
        ),
        "Item": _item({"category": _or_nothing(_printable(128)), "price": _amount()}, ["price"]),
        "ReversedItem": _item({}, ["sku"]),
        "Sale": _sale(late_ms),
        "Sales": {
            **_one_or_many("Sale", most),
            "description": "What has a `reversal_id` is refused: it belongs to /v1/reversals",
        },
        "Reversal": _reversal(),
        "Reversals": _one_or_many("Reversal", most),
        "Recorded": _recorded(),
        "NotRecorded": {
            "allOf": [
                {"$ref": "#/components/schemas/Error"},
                _object({"status": {"const": "error"}, "http_status": {"type": "integer"}}),
            ]
        },
        "Results": {
            "anyOf": [
                {"$ref": "#/components/schemas/Recorded"},
                _object(
                    {
                        "results": {
                            "type": "array",
                            "description": "In the order of the request",
                            "items": {"anyOf": [_ref("Recorded"), _ref("NotRecorded")]},
                        }
                    }
                ),
            ]
        },
        "Explanation": {
            "type": "object",
            "required": ["program", "order_id", "goal", "status"],
            "properties": {
                **{name: {"type": "string"} for name in ("program", "order_id", "goal")},
                "status": {"enum": ["decided", "pending"]},
                "affiliate": {"type": "string", "description": "Who has the sale; empty: nobody"},
                "candidates": {"type": "array", "items": {"type": "object"}},
            },
        },
    }


def _sale(late_ms: int) -> Json:
    fields: Json = {name: _or_nothing(schema) for name, schema in _TEXTS.items()}
    fields["program"] = ID
    fields["order_id"] = {"anyOf": [ORDER_ID, {"type": "integer"}]}
    fields["amount"] = _or_nothing(_amount())
    fields["coupon"] = _or_nothing(_TEXTS["coupon"], {"type": "array", "maxItems": 10, "items": _TEXTS["coupon"]})
    fields["ts"] = _or_nothing(_TEXTS["ts"], {"type": "integer"})
    items = {"type": "array", "maxItems": _ITEMS_MAX, "items": _ref("Item")}
    fields["items"] = _or_nothing(items, _TEXTS["items"])
    for name, schema in fields.items():
        if text := described(name, late_ms):
            schema = fields[name] = {**schema, "description": text}
    fields["payout"] = {"not": {}, "description": "Refused: the commission follows from the program's terms"}
    return {"type": "object", "required": list(_NEEDED), "properties": fields}


def _reversal() -> Json:
    fields = {
        "program": ID,
        "order_id": {"anyOf": [ORDER_ID, {"type": "integer"}]},
        "goal": _or_nothing(_TEXTS["goal"]),
        "reversal_id": {
            "anyOf": [_printable(128), {"type": "integer"}],
            "description": "The merchant's own id of this refund: said again with the same content it changes nothing",
        },
        "amount": _or_null(_amount()),
        "items": _or_null({"type": "array", "minItems": 1, "maxItems": _ITEMS_MAX, "items": _ref("ReversedItem")}),
        "reason": _or_nothing(_printable(500)),
    }
    return {
        "type": "object",
        "description": "With amount or items a part of the sale, with neither what is left of it",
        "required": ["program", "order_id", "reversal_id"],
        "properties": fields,
    }


def _item(more: Json, required: list[str]) -> Json:
    sku = _printable(128) if "sku" in required else _or_null(_printable(128))
    quantity = {"type": "integer", "minimum": 1, "maximum": 1_000_000}
    return {
        "type": "object",
        "required": required,
        "properties": {"sku": sku, "quantity": quantity, **more},
        "additionalProperties": False,
    }


def _amount() -> Json:
    """In JSON a whole number does as well; one with a point has lost its cents before we read it."""
    return {"anyOf": [_AMOUNT, {"type": "integer", "minimum": 0, "maximum": _INTEGER_MAX}]}


def _recorded() -> Json:
    taken = [outcome.value for outcome in Outcome if outcome != Outcome.CONFLICT]
    return _object({"status": {"enum": taken}, "conversion_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"}})


def _one_or_many(schema: str, most: int) -> Json:
    return {"anyOf": [_ref(schema), {"type": "array", "maxItems": most, "items": _ref(schema)}]}


def _or_nothing(*schemas: Json) -> Json:
    """Null and empty text are as good as left out."""
    return {"anyOf": [*schemas, {"enum": ["", None]}]}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
