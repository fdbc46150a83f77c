"""Macros: a value stays in its place, whatever it is and whichever way it came."""

from urllib.parse import quote, unquote_to_bytes

from ada_url import parse_url
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import examples
from tests.fuzz.hostile import texts
from tracker.destination import MACRO_VALUE_BYTES_MAX, compile_template
from tracker.parameters import parse_query

TEMPLATE = compile_template("https://shop.example/p/{sub1}/x?a={sub2}&b={sub3}#{ref}")
EMPTY = parse_url(TEMPLATE.expand({}))
values = st.fixed_dictionaries({name: texts for name in ("sub1", "sub2", "sub3", "ref")})


@examples(300)
@given(values)
def test_a_value_comes_out_as_it_went_in(values: dict[str, str]) -> None:
    """By a query, through the macro, to the shop: whole, or cut between two characters."""
    query = "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in values.items())
    read = parse_query(query.encode())
    assert read == {name: value.encode("utf-8", "replace").decode() for name, value in values.items()}
    sent = TEMPLATE.expand(read)
    parsed = parse_url(sent)
    assert parsed["href"] == sent and sent.isascii() and sent.isprintable()
    assert (parsed["origin"], parsed["pathname"].count("/")) == (EMPTY["origin"], EMPTY["pathname"].count("/"))
    arrived = parse_query(parsed["search"][1:].encode())
    for param, name in (("a", "sub2"), ("b", "sub3")):
        assert read[name].startswith(arrived[param])
        assert arrived[param] == read[name] or len(arrived[param].encode()) > MACRO_VALUE_BYTES_MAX - 4
    assert read["ref"].startswith(unquote_to_bytes(parsed["hash"][1:]).decode())


@examples(200)
@given(st.binary(max_size=60) | texts.map(lambda text: text.encode("utf-8", "replace")))
def test_any_query_is_read(query: bytes) -> None:
    for name, value in parse_query(query).items():
        assert name.encode() is not None and value.encode() is not None
