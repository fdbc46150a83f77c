"""What a report of a sale may say: every parameter read, checked, and named when it is wrong. Pure.

Called by api.py for all channels alike. Leaves out who may report (schemas/api_keys.py) and what happens to a good
report (reports.py).
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import orjson

from schemas.currencies import EXPONENTS
from tracker.reports import Claim, Report

AHEAD_MS_MAX = 5 * 60_000
ALIASES = {
    "txid": "order_id",
    "transaction_id": "order_id",
    "cid": "click_id",
    "clickid": "click_id",
    "event": "goal",
}
KNOWN = (
    "program", "order_id", "amount", "currency", "goal", "click_id", "customer_id", "coupon", "channel", "ts", "items"
)  # fmt: skip
AMOUNT = re.compile(r"[0-9]{1,14}(\.[0-9]{1,4})?", re.ASCII)
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+ -][0-9]{2}:[0-9]{2})"
)
"""A space before the offset is a plus that somebody forgot to encode."""

GOAL = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
NAME = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_WORD = "[A-Za-z_.]+"
_UNFILLED = re.compile(
    rf".*\{{.*\}}.*|\[.*\]|<.*>|#.*#|%+{_WORD}%+|__{_WORD}__|@+{_WORD}@+|\*\|.*\|\*|\$+{_WORD}\$*", re.DOTALL
)
_NOTHING = frozenset(("", "null", "(null)", "undefined", "none", "nil", "nan", "n/a", "[object object]"))
_LEFT_OUT: dict[str, tuple[Any, ...]] = {"coupon": (None, "", []), "items": (None, "", [], "[]")}
"""What is as good as nothing said; of other parameters null and empty text."""
_UNKNOWN_MAX = 50


class FieldError(Exception):
    """A report that cannot be taken: HTTP status, code, message and the parameter at fault; with 429 and 503, after
    how long to try again."""

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after_seconds: int = 2
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


def canonical(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The known parameters under their own names, and the unknown ones as short texts. Nulls are as good as left out.

    An alias beside its own name is refused unless both say the same, or one is empty.
    """
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in raw.items():
        own = ALIASES.get(name, name)
        if own == "payout":
            raise FieldError(
                400,
                "payout_not_accepted",
                "the commission follows from the program's terms; send amount",
                "payout",
            )
        if own not in KNOWN:
            unknown[name] = value
        elif value is not None:
            if known.get(own, "") == "":
                known[own] = value
            elif value not in ("", known[own]):
                raise FieldError(400, f"{own}_ambiguous", f"{name} and {own} say different things", name)
    return known, shortened(unknown)


def shortened(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as they are kept for people to look at; never a secret."""
    kept = [(name, value) for name, value in params.items() if name != "token"][:_UNKNOWN_MAX]
    return {name[:64]: _as_text(value)[:256] for name, value in kept}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return "(too deep to be kept)"


def read_program(value: Any) -> str:
    if value is None or value == "":
        raise FieldError(400, "program_missing", "program is required: the id of a program", "program")
    return _matching(value, "program", NAME, "a program's id: a-z 0-9 - _, up to 64")


def read_order_id(value: Any) -> str:
    if value is None:
        raise FieldError(400, "order_id_missing", "order_id is required", "order_id")
    value = _number_as_text(value)
    if not isinstance(value, str):
        raise _malformed("order_id", "1 to 128 printable characters")
    if len(value) > 128:  # before any pattern: those are quadratic in what they are given
        raise _malformed("order_id", "1 to 128 printable characters")
    if _is_placeholder(value):
        raise FieldError(422, "order_id_invalid", "order_id is empty, a placeholder or an unexpanded macro", "order_id")
    return _printable(value, "order_id", 128)


def _is_placeholder(value: str) -> bool:
    """Whether it is what a template says that was not filled in, or filled in with nothing."""
    for text in (value, unquote(value)) if "%" in value else (value,):
        bare = text.strip(" \"'\t\r\n").strip()
        if bare.lower() in _NOTHING or _UNFILLED.fullmatch(bare):
            return True
    return False


def read_goal(value: Any) -> str:
    return "sale" if value in (None, "") else _matching(value, "goal", GOAL, "up to 64 of A-Z a-z 0-9 . - _")


def read_content(known: Mapping[str, Any], now: int, tolerance_ms: int) -> tuple[dict[str, Any], int]:
    """The content as far as it was given, normalised so that equal values are equal, and the sale's time in ms. A
    placeholder is no customer: it is left out.

    Whether that time is too far back is asked when it is known whether the order is new: `check_age`."""
    content: dict[str, Any] = {}
    for name, read in _READERS.items():
        if name in known and known[name] not in _LEFT_OUT.get(name, (None, "")):
            content[name] = read(known[name])
    if "customer_id" in content and _is_placeholder(content["customer_id"]):  # it would make one customer of all
        del content["customer_id"]
    sale_ts = now
    if known.get("ts") not in (None, ""):
        given = read_time(known["ts"])
        if given > now + AHEAD_MS_MAX:
            raise FieldError(422, "ts_in_future", "ts is more than 5 minutes ahead of now", "ts")
        content["ts"] = given
        sale_ts = now if abs(now - given) <= tolerance_ms else given
    return content, sale_ts


def check_age(report: Report, known: Claim | None) -> None:
    """Refuse a sale dated too far back, unless it is known by this very time: a retry may come after years. Raises
    FieldError 422."""
    if report.is_dated_back and not (known and known.content.get(report.trust, {}).get("ts") == report.content["ts"]):
        raise FieldError(422, "ts_too_old", "ts is further back than conversions.max_late", "ts")


def read_click_id(value: Any) -> str | None:
    """Any text: an id that is not ours is no evidence, but no reason to refuse a sale."""
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        raise _malformed("click_id", "the 32 characters of the landing page's parameter")
    return _printable(value, "click_id", 255)


def read_time(value: Any) -> int:
    """Epoch ms (13 digits), epoch s (10 digits) or RFC 3339. Whole seconds mean their last millisecond."""
    accepted = "epoch ms, epoch s or RFC 3339 with an offset"
    value = _number_as_text(value)
    if not isinstance(value, str):
        raise _malformed("ts", accepted)
    if re.fullmatch(r"[0-9]{13}", value, re.ASCII):
        return int(value)
    if re.fullmatch(r"[0-9]{10}", value, re.ASCII):
        return int(value) * 1000 + 999
    parts = _RFC_3339.fullmatch(value)
    if parts is None:
        raise _malformed("ts", accepted)
    date, time, fraction, offset = parts.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{offset.replace(' ', '+').upper()}")
        whole = int(moment.timestamp()) * 1000
    except (ValueError, OverflowError):
        raise _malformed("ts", accepted) from None
    return whole + (int(fraction[1:4].ljust(3, "0")) if fraction else 999)


def _read_amount(value: Any) -> str:
    """Text: a float has lost the cents of a large amount before it comes here."""
    value = _number_as_text(value)
    if not isinstance(value, str) or not AMOUNT.fullmatch(value):
        raise _malformed("amount", 'a decimal string such as "49.90", up to 14 digits before the point and 4 after it')
    return _with_four_places(value)


def _with_four_places(amount: str) -> str:
    """An amount that AMOUNT matches, in the one way to write it: `049.9` is `49.9000`."""
    whole, _, fraction = amount.partition(".")
    return (whole.lstrip("0") or "0") + "." + (fraction + "0000")[:4]


def _read_currency(value: Any) -> str:
    if not isinstance(value, str) or value not in EXPONENTS:
        raise _malformed("currency", "an ISO 4217 code such as EUR")
    return value


def _read_coupons(value: Any) -> list[str]:
    codes = value if isinstance(value, list) else [value]
    if len(codes) > 10:
        raise _malformed("coupon", "a code, or a list of up to 10")
    return [_printable(code, "coupon", 64) for code in codes]


def _read_items(value: Any) -> str:
    """The lines of the order as canonical JSON text."""
    accepted = "a JSON array of up to 500 {sku, category, quantity, price}"
    try:
        items = orjson.loads(value) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        raise _malformed("items", accepted) from None
    if not isinstance(items, list) or len(items) > 500:
        raise _malformed("items", accepted)
    return orjson.dumps([_read_item(item, accepted) for item in items], option=orjson.OPT_SORT_KEYS).decode()


def _read_item(item: Any, accepted: str) -> dict[str, Any]:
    if not isinstance(item, dict) or not item.keys() <= {"sku", "category", "quantity", "price"}:
        raise _malformed("items", accepted)
    quantity = item.get("quantity", 1)
    if isinstance(quantity, bool) or not isinstance(quantity, int) or not 1 <= quantity <= 1_000_000:
        raise _malformed("items", "a quantity of 1 or more")
    price = _number_as_text(item.get("price"))
    if not isinstance(price, str) or not AMOUNT.fullmatch(price):
        raise _malformed("items", "a price as a decimal string")
    read = {"quantity": quantity, "price": _with_four_places(price)}
    for name in ("sku", "category"):
        if item.get(name) is not None:
            read[name] = _printable(item[name], "items", 128)
    return read


_READERS: dict[str, Callable[[Any], Any]] = {
    "amount": _read_amount,
    "currency": _read_currency,
    "customer_id": lambda value: _printable(value, "customer_id", 128),
    "coupon": _read_coupons,
    "channel": lambda value: _printable(value, "channel", 64),
    "items": _read_items,
}


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _printable(value: Any, param: str, most: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise _malformed(param, f"1 to {most} printable characters")
    return value


def _matching(value: Any, param: str, pattern: re.Pattern[str], accepted: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _malformed(param, accepted)
    return value


def _malformed(param: str, accepted: str) -> FieldError:
    return FieldError(400, f"{param}_malformed", f"{param} must be {accepted}", param)


def read_reversal(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A reversal: `{program, order_id, goal, reversal_id, amount or items or neither, reason}`."""
    given = {name: value for name, value in raw.items() if value is not None}
    if "amount" in given and "items" in given:
        raise FieldError(400, "reversal_ambiguous", "a reversal has amount, or items, or neither", "items")
    if "reversal_id" not in given:
        raise FieldError(
            400, "reversal_id_missing", "reversal_id is required: your own id of this refund", "reversal_id"
        )
    content: dict[str, Any] = {}
    if "amount" in given:
        content["amount"] = _read_amount(given["amount"])
    if "items" in given:
        content["items"] = _read_reversed_items(given["items"])
    if given.get("reason", "") != "":
        content["reason"] = _printable(given["reason"], "reason", 500)
    return {
        "program": read_program(given.get("program")),
        "order_id": read_order_id(given.get("order_id")),
        "goal": read_goal(given.get("goal")),
        "reversal_id": _printable(_number_as_text(given["reversal_id"]), "reversal_id", 128),
        "content": content,
    }


def _read_reversed_items(items: Any) -> str:
    accepted = "a JSON array of up to 500 {sku, quantity}"
    if not isinstance(items, list) or not 0 < len(items) <= 500:
        raise _malformed("items", accepted)
    read = []
    for item in items:
        if not isinstance(item, dict) or not item.keys() <= {"sku", "quantity"} or "sku" not in item:
            raise _malformed("items", accepted)
        quantity = item.get("quantity", 1)
        if isinstance(quantity, bool) or not isinstance(quantity, int) or not 1 <= quantity <= 1_000_000:
            raise _malformed("items", "a quantity of 1 or more")
        read.append({"sku": _printable(item["sku"], "items", 128), "quantity": quantity})
    return orjson.dumps(read, option=orjson.OPT_SORT_KEYS).decode()
