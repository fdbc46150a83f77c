"""The projection: the same records from the stream as from the stored copy."""

import orjson

from schemas.projection import LINES_FIELD, Projection, version_line


def line(position: int, id: str, value: int, kind: str = "link") -> bytes:
    return version_line(position, 7, kind, id, {"value": value})


def test_the_latest_version_of_an_entity_is_the_entity() -> None:
    projection = Projection()
    first = {LINES_FIELD: b"\n".join((line(1, "a", 1), line(2, "b", 2)))}
    assert projection.continues(first)
    assert projection.take_entry("5-0", first) == [("link", "a"), ("link", "b")]
    assert projection.take_entry("6-0", {LINES_FIELD: line(3, "a", 3)}) == [("link", "a")]
    assert (projection.get("link", "a"), projection.get("link", "b")) == ({"value": 3}, {"value": 2})
    assert (projection.position, projection.stream_id, projection.mark) == (3, "6-0", "3 6-0")


def test_what_is_not_known_is_none() -> None:
    projection = Projection()
    assert projection.get("link", "a") is None
    projection.take_entry("1-0", {LINES_FIELD: line(1, "a", 1)})
    assert projection.get("link", "b") is None and projection.get("program", "a") is None


def test_an_entry_that_does_not_follow_is_told() -> None:
    projection = Projection()
    projection.take_entry("1-0", {LINES_FIELD: line(1, "a", 1)})
    assert projection.continues({LINES_FIELD: line(2, "a", 1)})
    assert not projection.continues({LINES_FIELD: line(3, "a", 1)})
    assert not projection.continues({LINES_FIELD: line(1, "a", 1)})


def test_an_entry_without_versions_only_moves_on() -> None:
    projection = Projection()
    assert projection.take_entry("1-0", {}) == []
    assert (projection.position, projection.stream_id) == (0, "1-0")


def test_a_stored_projection_is_the_same_as_the_stream_up_to_its_mark() -> None:
    projection = Projection()
    lines = (line(1, "a", 1), line(2, "b", 2), line(3, "a", 3, "program"))
    projection.take_entry("9-1", {LINES_FIELD: b"\n".join(lines)})
    stored = Projection()
    stored.take_entry("1-0", {LINES_FIELD: line(1, "gone", 1)})
    stored.take_all(projection.mark, projection.items())
    assert stored.mark == projection.mark
    assert (
        dict(stored.items())
        == dict(projection.items())
        == {
            "link:a": b'{"value":1}',
            "link:b": b'{"value":2}',
            "program:a": b'{"value":3}',
        }
    )
    assert list(stored.all("link")) == [{"value": 1}, {"value": 2}] and list(stored.all("key")) == []


def test_an_empty_mark_is_the_beginning() -> None:
    projection = Projection()
    projection.take_all("", [])
    assert projection.mark == "0 0-0"


def test_a_version_is_a_row_of_its_table() -> None:
    row = orjson.loads(line(3, "a", 1))
    assert row == {"version_id": "3", "position": "3", "at": "7", "type": "link", "id": "a", "data": '{"value":1}'}
