"""Signed reports: what Standard Webhooks signs is taken, and nothing that differs from it by a byte."""

from base64 import b64decode

import pytest
from starlette.datastructures import Headers

from tracker.signatures import AGE_SECONDS_MAX, Signature, read_signature, sign

PUBLISHED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
SECRET = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'
HEADERS = {
    "lastcookie-key": "AAAQEAYE",
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": PUBLISHED,
}
"""The example by which implementations of Standard Webhooks are tried, and the name of a key."""


def read(**changed: str | None) -> Signature | None:
    """The signature of the example with other headers (`_` for `-`), or without one."""
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return read_signature(Headers({name: value for name, value in headers.items() if value is not None}))


def is_right(body: bytes = BODY, secret: bytes = SECRET, **changed: str | None) -> bool:
    signature = read(**changed)
    return signature is not None and signature.is_right(secret, body)


def test_the_published_example_is_signed_and_read_as_published() -> None:
    assert sign(SECRET, b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.", BODY) == PUBLISHED.encode()
    assert is_right()


def test_one_right_signature_among_several_will_do() -> None:
    assert is_right(webhook_signature=f"v1,AAAA v1a,hnO3f9T8Ytu9HwrXslvumlUp {PUBLISHED} v2,")
    assert not is_right(webhook_signature=f"v1a,{PUBLISHED[3:]}")


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJel"},
        {"webhook_timestamp": "1614265331"},
        {"webhook_timestamp": "01614265330"},
        {"webhook_signature": PUBLISHED[:-1]},
        {"webhook_signature": PUBLISHED.replace("v1,", "v2,")},
        {"webhook_signature": PUBLISHED[3:]},
        {"webhook_signature": PUBLISHED.lower()},
        {"webhook_signature": PUBLISHED.replace(",", ", ")},
        {"webhook_signature": ""},
        {"webhook_signature": "é"},
    ],
)
def test_what_was_not_signed_is_not_right(changed: dict[str, str]) -> None:
    assert not is_right(**changed)


def test_a_body_is_signed_by_the_byte() -> None:
    assert not is_right(BODY + b" ") and not is_right(BODY.replace(b" ", b"")) and not is_right(b"")
    assert not is_right(secret=SECRET[:-1])


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_missing_or_there_twice_is_no_signature(name: str) -> None:
    assert read(**{name.replace("-", "_"): None}) is None
    twice = [(one.encode(), value.encode()) for one, value in [*HEADERS.items(), (name, HEADERS[name])]]
    assert read_signature(Headers(raw=twice)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"lastcookie_key": ""},
        {"lastcookie_key": "aaaqeaye"},
        {"lastcookie_key": "AAAQEAYEA"},
        {"lastcookie_key": "acme"},
        {"webhook_id": ""},
        {"webhook_id": "a b"},
        {"webhook_id": "é"},
        {"webhook_id": "x" * 257},
        {"webhook_timestamp": ""},
        {"webhook_timestamp": "-1614265330"},
        {"webhook_timestamp": "1614265330.0"},
        {"webhook_timestamp": "1e9"},
        {"webhook_timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook_timestamp": "1" * 13},
    ],
)
def test_a_malformed_header_is_no_signature(changed: dict[str, str]) -> None:
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changed.items()}}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert read_signature(Headers(raw=raw)) is None


def test_an_id_has_no_point_because_what_was_signed_as_body_would_become_a_time() -> None:
    """`a.1614265330` signed at 2 says the same bytes as `a` signed at 1614265330 with a body that begins with `2.`."""
    moved = sign(SECRET, b"a.1614265330.2.", b"{}").decode()
    assert is_right(b"2.{}", webhook_id="a", webhook_signature=moved)
    assert read(webhook_id="a.1614265330", webhook_timestamp="2", webhook_signature=moved) is None


def test_a_signature_is_good_for_five_minutes_either_way() -> None:
    signature, at = read(), 1_614_265_330_000
    assert signature is not None and AGE_SECONDS_MAX == 300
    assert signature.is_current(at - 300_000) and signature.is_current(at + 300_000)
    assert not signature.is_current(at - 300_001) and not signature.is_current(at + 300_001)
