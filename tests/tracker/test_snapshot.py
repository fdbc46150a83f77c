"""The snapshot: whole or not at all, the same entities again, and links found where they stand in the file."""

from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.projection import LINES_FIELD, Projection, version_line
from tracker import snapshot
from tracker.snapshot import StoredLinks, load_snapshot, save_snapshot

ids = st.text("aZ09-_", min_size=1, max_size=4)
links = st.dictionaries(ids, st.integers(0, 9), max_size=30)


def projection(mark: str = "7 5-0", **records: int) -> Projection:
    """Of `link_a=1`: link a with a value."""
    made = Projection()
    pairs = (name.split("_", 1) for name in records)
    made.take_all(mark, ((f"{kind}:{id}", b'{"value":%d}' % records[f"{kind}_{id}"]) for kind, id in pairs))
    return made


def put(into: Projection, values: dict[str, int]) -> None:
    for id, value in values.items():
        into.put("link", id, b'{"value":%d}' % value)


def saved(path: Path, it: Projection) -> Projection:
    save_snapshot(path, it.freeze())
    return load_snapshot(path)


def test_what_was_saved_is_loaded_with_its_mark(tmp_path: Path) -> None:
    it = projection(link_b=2, link_a=1, program_p=3, key_k=4, membership_m=5)
    found = saved(tmp_path / "links" / "s", it)
    assert (found.mark, dict(found.items())) == ("7 5-0", dict(it.items()))
    assert (found.get("link", "a"), found.get("program", "p")) == ({"value": 1}, {"value": 3})
    assert (found.get("link", "c"), found.get("link", ""), found.get("program", "q")) == (None, None, None)
    assert [path.name for path in (tmp_path / "links").iterdir()] == ["s"]


def test_links_stay_in_the_file_and_all_else_does_not(tmp_path: Path) -> None:
    frozen = saved(tmp_path / "s", projection(link_a=1, program_p=3, coupon_c=2)).freeze()
    assert set(frozen.records) == {"program", "coupon"}
    assert frozen.links is not None and dict(frozen.links.items()) == {"a": b'{"value":1}'}


def test_a_link_that_has_changed_since_is_the_one_that_counts(tmp_path: Path) -> None:
    it = saved(tmp_path / "s", projection(link_a=1, link_b=2))
    it.take_entry("6-0", {LINES_FIELD: version_line(8, 7, "link", "b", {"value": 9})})
    assert (it.get("link", "a"), it.get("link", "b"), it.mark) == ({"value": 1}, {"value": 9}, "8 6-0")
    assert dict(it.items()) == {"link:a": b'{"value":1}', "link:b": b'{"value":9}'}


def test_a_snapshot_of_a_snapshot_that_has_changed_replaces_the_file_it_stands_on(tmp_path: Path) -> None:
    it = saved(tmp_path / "s", projection(link_a=1, link_c=3, program_p=1))
    put(it, {"b": 2, "c": 4})
    it.mark = "9 9-0"
    again = saved(tmp_path / "s", it)
    expected = {"link:a": 1, "link:b": 2, "link:c": 4, "program:p": 1}
    assert {key: orjson.loads(data)["value"] for key, data in again.items()} == expected
    assert again.mark == "9 9-0" and it.get("link", "a") == {"value": 1}  # the old file is still read


@settings(deadline=None, max_examples=50)
@given(links, links)
def test_every_link_is_found_and_no_other(before: dict[str, int], after: dict[str, int]) -> None:
    it = projection(affiliate_z=1, merchant_a=1)
    put(it, before)
    with TemporaryDirectory() as folder:
        it = saved(Path(folder) / "s", it)
        put(it, after)
        it = saved(Path(folder) / "s", it)
    everything = {**before, **after}
    stored = it.freeze().links
    assert stored is not None
    assert {id: orjson.loads(data)["value"] for id, data in stored.items()} == everything
    for id in {*everything, "a", "Z0", "-", "aaaaa"}:
        assert it.get("link", id) == ({"value": everything[id]} if id in everything else None)


def test_lines_are_in_order_although_they_are_sorted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_SORTED_AT_ONCE", 3)
    monkeypatch.setattr(snapshot, "_GIVE_WAY_BYTES", 50)
    monkeypatch.setattr(snapshot, "_DURABLE_BYTES", 40)
    it = Projection()
    put(it, {str(n): n for n in range(100, 0, -1)})
    found = saved(tmp_path / "s", it)
    lines = (tmp_path / "s").read_bytes().split(b"\n")[1:-1]
    assert lines == sorted(lines) and len(lines) == 100
    assert all(found.get("link", str(n)) == {"value": n} for n in range(1, 101))


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b.replace(b"1", b"2"), lambda b: b""]
)
def test_a_snapshot_that_is_not_whole_is_none(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "s"
    save_snapshot(path, projection(link_a=1).freeze())
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    assert load_snapshot(path).position == 0 and load_snapshot(path).get("link", "a") is None


@pytest.mark.parametrize(
    "head", [b"", b"\n", b"x\n", b"7 5-0\n", b"7 5-0 00000000 sorted\n", b"\xff\xff\xff 00000000\n"]
)
def test_what_is_no_snapshot_is_none(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "s").write_bytes(head)
    found = load_snapshot(tmp_path / "s")
    assert list(found.items()) == []


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert load_snapshot(tmp_path / "s").mark == "0 0-0"


def test_a_snapshot_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    """It was in no order, and its first line as long as it needed to be."""
    body = b'link:b\t{"value":2}\nprogram:p\t{"value":3}\nlink:a\t{"value":1}'
    (tmp_path / "s").write_bytes(b"7 5-0 %08x\n" % crc32(body) + body)
    found = load_snapshot(tmp_path / "s")
    assert (found.mark, found.get("link", "a"), found.get("program", "p")) == ("7 5-0", {"value": 1}, {"value": 3})
    assert dict(saved(tmp_path / "s", found).items()) == dict(found.items())


def test_an_empty_projection_is_saved_and_loaded(tmp_path: Path) -> None:
    found = saved(tmp_path / "s", projection("3 4-0"))
    assert (found.mark, list(found.items())) == ("3 4-0", [])
    assert isinstance(found.freeze().links, StoredLinks)
