"""Keys: only the text that was shown opens, and the record does not tell it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api_keys import HOLDERS, RANDOM_BYTES, key_id, make_key, opens

KEY = make_key("acme", "api", bytes(range(RANDOM_BYTES)), 1_767_225_600_000)


def test_a_key_has_a_prefix_randomness_and_a_checksum() -> None:
    assert KEY.text == "lca_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXeb32fe61"
    assert make_key("acme", "postback", bytes(RANDOM_BYTES), 0).text.startswith("lcp_")
    assert make_key("alice", "affiliate", bytes(RANDOM_BYTES), 0).text.startswith("lcf_")


def test_the_record_holds_who_may_do_what_and_no_key() -> None:
    assert KEY.record == {
        "id": KEY.id,
        "merchant": "acme",
        "kind": "api",
        "sha256": KEY.record["sha256"],
        "created_at": 1_767_225_600_000,
        "status": "active",
    }
    assert KEY.text[12:36] not in json.dumps(KEY.record)


def test_an_affiliates_key_names_no_merchant() -> None:
    """Whoever looks for the merchant of a key finds none, also where one has the affiliate's id."""
    record = make_key("acme", "affiliate", bytes(RANDOM_BYTES), 0).record
    assert (record["affiliate"], record["kind"]) == ("acme", "affiliate") and "merchant" not in record


def test_the_same_randomness_under_another_prefix_opens_nothing() -> None:
    other = make_key("acme", "affiliate", bytes(range(RANDOM_BYTES)), 0)
    assert other.id == KEY.id
    assert not opens(KEY.record, other.text) and not opens(other.record, KEY.text)


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), st.sampled_from(list(HOLDERS)))
def test_a_key_opens_its_own_record(randomness: bytes, kind: str) -> None:
    key = make_key("acme", kind, randomness, 0)
    assert key_id(key.text) == key.id == key.record["id"]
    assert opens(key.record, key.text)
    assert not opens(KEY.record, key.text) or key.text == KEY.text


def test_a_removed_key_opens_nothing() -> None:
    assert not opens({**KEY.record, "status": "removed"}, KEY.text)


def test_no_record_is_opened_by_nothing() -> None:
    assert not opens(None, KEY.text)
    assert not opens(None, "")


@given(st.integers(0, len(KEY.text) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_typing_error_is_seen_without_a_look_up(place: int, character: str) -> None:
    text = KEY.text[:place] + character + KEY.text[place + 1 :]
    is_other_kind = text[:4] in ("lcp_", "lcf_")  # looked up, and then not the key
    assert (key_id(text) is None) == (text != KEY.text and not is_other_kind)
    assert opens(KEY.record, text) == (text == KEY.text)


@pytest.mark.parametrize(
    "text", ["", "lca_", "lca_" + "A" * 40, KEY.text[:-1], KEY.text + "0", KEY.text.upper(), "é" * 44]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert key_id(text) is None


@given(st.text(max_size=60))
def test_any_text_is_tried(text: str) -> None:
    assert key_id(text) is None
    assert not opens(KEY.record, text)
