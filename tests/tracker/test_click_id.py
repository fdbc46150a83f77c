"""Click ids: what is minted is read back, what was not minted here is nobody's."""

import stat
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.click_id import (
    LENGTH,
    SEQUENCE_BITS,
    WORKERS_MAX,
    Click,
    ClickIds,
    load_keys,
    visitor_bytes,
    visitor_text,
)

OLD, NEW = bytes(range(48)), bytes(range(100, 148))
IDS = ClickIds({1: OLD})
VISITORS = st.binary(min_size=8, max_size=8)
AT = 1_767_225_600_000


def mint(ids: ClickIds = IDS, program: bytes = b"shoes", sequence: int = 7) -> str:
    return ids.mint(AT, 3, sequence, b"visitor!", program).decode()


def test_an_id_says_when_where_in_which_order_and_whose() -> None:
    assert IDS.read(mint(), "shoes") == Click(AT, 3, 7, visitor_text(b"visitor!"))


@given(st.integers(0, 2**42 - 1), st.integers(0, WORKERS_MAX - 1), st.integers(0, 2**40), VISITORS)
def test_what_is_minted_is_read_back(ts: int, worker: int, sequence: int, visitor: bytes) -> None:
    """Whatever its time, worker and visitor; the sequence comes back with its low bits."""
    click_id = IDS.mint(ts, worker, sequence, visitor, b"shoes").decode()
    assert len(click_id) == LENGTH
    assert IDS.read(click_id, "shoes") == Click(ts, worker, sequence % (1 << SEQUENCE_BITS), visitor_text(visitor))


def test_two_clicks_of_one_visitor_have_nothing_in_common() -> None:
    """A merchant who has both ids cannot tell that they are one person's."""
    first, second = (urlsafe_b64decode(mint(sequence=n))[1:] for n in (7, 8))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 6


def test_an_id_of_another_program_is_nobodys() -> None:
    assert IDS.read(mint(program=b"shoes"), "hats") is None


def test_an_id_of_another_installation_is_nobodys() -> None:
    assert IDS.read(mint(ClickIds({1: NEW})), "shoes") is None


def test_an_id_under_an_unknown_key_number_is_nobodys() -> None:
    assert IDS.read(mint(ClickIds({2: OLD})), "shoes") is None


def test_ids_of_an_older_key_are_still_read_and_the_greatest_number_mints() -> None:
    both = ClickIds({2: NEW, 1: OLD})
    assert both.read(mint(), "shoes") is not None
    assert ClickIds({2: NEW}).read(mint(both), "shoes") is not None


@given(st.integers(0, LENGTH - 1), st.characters())
def test_an_id_with_one_character_changed_is_nobodys(place: int, character: str) -> None:
    good = mint()
    changed = good[:place] + character + good[place + 1 :]
    assert (IDS.read(changed, "shoes") is not None) == (changed == good)


@given(st.text(max_size=40) | st.text("{}=+/-_ABCabc019 \n", min_size=LENGTH, max_size=LENGTH))
def test_an_invented_id_is_nobodys(text: str) -> None:
    assert IDS.read(text, "shoes") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 31,
        "A" * 33,
        "A" * 31 + "=",
        "A" * 31 + "!",
        "!" * 32,
        "A" * 31 + "é",
        "A" * 31 + "\n",
        "{click_id}" * 3,
    ],
)
def test_what_has_not_the_shape_of_an_id_is_nobodys(text: str) -> None:
    assert IDS.read(text, "shoes") is None


# Visitors


@given(VISITORS)
def test_a_visitor_is_read_back(visitor: bytes) -> None:
    assert visitor_bytes(visitor_text(visitor).encode()) == visitor


@pytest.mark.parametrize(
    "text", [b"", b"AAAAAAAAAA", b"AAAAAAAAAAAA", b"AAAAAAAAAA!", b"AAAAAAAAAAB", b"AAAAAAAAAA=", b"\xff" * 11]
)
def test_what_the_system_would_not_write_is_no_visitor(text: bytes) -> None:
    """Also the 11 characters whose last has bits to spare: one visitor has one name."""
    assert visitor_bytes(text) is None


@given(st.binary(max_size=12) | st.text("AQE=-_+/ 09", min_size=11, max_size=11).map(str.encode))
def test_of_any_bytes_only_the_systems_own_are_a_visitor(text: bytes) -> None:
    visitor = visitor_bytes(text)
    assert visitor is None or (len(visitor) == 8 and visitor_text(visitor).encode() == text)


# The key file


def test_the_first_start_makes_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "click-id.keys"
    ids = load_keys(path, OLD)
    assert ids.read(mint(), "shoes") is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["click-id.keys"]


def test_a_later_start_keeps_the_key(tmp_path: Path) -> None:
    path = tmp_path / "click-id.keys"
    click_id = mint(load_keys(path, OLD))
    assert load_keys(path, NEW).read(click_id, "shoes") is not None


def test_of_workers_that_start_at_once_one_decides_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds the file made between its look and its attempt."""
    path = tmp_path / "click-id.keys"
    load_keys(path, OLD)
    looks = iter([False, True])
    monkeypatch.setattr(Path, "exists", lambda _: next(looks))
    assert load_keys(path, NEW).read(mint(), "shoes") is not None


def test_workers_on_threads_agree(tmp_path: Path) -> None:
    path = tmp_path / "click-id.keys"
    load_keys(path, OLD)
    with ThreadPoolExecutor(4) as pool:
        minted = list(pool.map(lambda n: mint(load_keys(path, bytes([n]) * 48)), range(8)))
    assert len(set(minted)) == 1


def test_a_second_line_is_a_newer_key(tmp_path: Path) -> None:
    path = tmp_path / "click-id.keys"
    path.write_text(f"1 {OLD.hex()}\n2 {NEW.hex()}\n")
    ids = load_keys(path, b"")
    assert ids.read(mint(), "shoes") is not None
    assert urlsafe_b64decode(mint(ids))[0] == 2


@pytest.mark.parametrize(
    "text",
    ["", "\n", "1\n", f"1 {OLD.hex()[2:]}\n", f"256 {OLD.hex()}\n", f"-1 {OLD.hex()}\n", f"x {OLD.hex()}\n", "1 zz\n"],
)
def test_a_key_file_that_cannot_be_read_stops_the_start(tmp_path: Path, text: str) -> None:
    """Going on with other keys would disown every click id issued."""
    path = tmp_path / "click-id.keys"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected lines of a number"):
        load_keys(path, OLD)
    assert path.read_text() == text
