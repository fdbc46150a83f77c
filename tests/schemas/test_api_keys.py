"""Keys: only the text that was shown opens, and the record does not tell it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api_keys import (
    RANDOM_BYTES,
    key_id,
    make_key,
    make_signing_key,
    networks_of,
    opens,
    signing_bytes,
    signing_secret,
)

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


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), st.sampled_from(["api", "postback", "affiliate"]))
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


# Signing keys

INSTALLATION = bytes(range(48))
SIGNING = make_signing_key("acme", INSTALLATION, bytes(range(RANDOM_BYTES)), 1_767_225_600_000)


def test_a_signing_key_is_written_as_standard_webhooks_has_it_and_begins_with_its_id() -> None:
    assert SIGNING.text.startswith(f"whsec_{SIGNING.id}") and SIGNING.id == "AAAQEAYE"
    assert len(signing_bytes(SIGNING.text)) == 38
    assert SIGNING.record["kind"] == "signing" and SIGNING.record["merchant"] == "acme"


def test_a_signing_key_follows_from_the_installation_and_its_id_and_from_nothing_less() -> None:
    assert signing_secret(INSTALLATION, SIGNING.id) == SIGNING.text
    assert signing_secret(bytes(48), SIGNING.id)[14:] != SIGNING.text[14:]
    assert signing_secret(INSTALLATION, "AAAQEAYF")[14:] != SIGNING.text[14:]
    assert SIGNING.text[14:] not in json.dumps(SIGNING.record)


def test_a_signing_key_is_no_bearer_key() -> None:
    assert key_id(SIGNING.text) is None


# Addresses


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ((), []),
        (("203.0.113.7",), ["203.0.113.7/32"]),
        (("2001:DB8:0::/48", "203.0.113.0/24"), ["203.0.113.0/24", "2001:db8::/48"]),
        (("203.0.113.7", "203.0.113.7/32"), ["203.0.113.7/32"]),
        (("::ffff:203.0.113.7", "::ffff:198.51.100.0/120"), ["198.51.100.0/24", "203.0.113.7/32"]),
        (("10.0.0.9", "10.0.0.10", "9.0.0.0/255.0.0.0"), ["9.0.0.0/8", "10.0.0.9/32", "10.0.0.10/32"]),
    ],
)
def test_addresses_are_kept_in_one_way_of_writing(written: tuple[str, ...], kept: list[str]) -> None:
    assert networks_of(written) == kept


@pytest.mark.parametrize("text", ["", "shop.example", "203.0.113.7/24", "203.0.113.256", "fe80::1%eth0", "::/129", "1"])
def test_what_is_no_network_is_named_with_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"accepted are an address such as 203\.0\.113\.7"):
        networks_of([text])


def test_a_key_has_a_bounded_list_of_addresses() -> None:
    assert len(networks_of([f"10.0.0.{n}" for n in range(64)])) == 64
    with pytest.raises(ValueError, match="up to 64"):
        networks_of([f"10.0.0.{n}" for n in range(65)])


def test_a_record_without_addresses_has_no_word_of_them() -> None:
    assert "addresses" not in KEY.record
    made = make_key("acme", "postback", bytes(RANDOM_BYTES), 0, ["203.0.113.7/32"])
    assert made.record["addresses"] == ["203.0.113.7/32"] and opens(made.record, made.text)
