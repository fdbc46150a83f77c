"""Deep links: whatever passes stays on an allowed host, as a browser reads it, and is safe in a header."""

import re

import pytest
from ada_url import parse_url
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import examples
from tests.fuzz.hostile import pieces, texts
from tracker.deep_links import allowed
from tracker.destination import compile_template, with_click_id
from tracker.web_address import DestinationError

HOSTS = ("shop.example", "*.shop.example", "other.example:8443", "192.0.2.7")
PASSES = re.compile(r"https?://((.+\.)?shop\.example\.?|other\.example\.?:8443|192\.0\.2\.7)[/?#]")

schemes = st.sampled_from(
    [
        "https:",
        "http:",
        "HTTPS:",
        "",
        "javascript:",
        "data:",
        "ht\ttps:",
        " https:",
        "\x00https:",
        "ftp:",
        "blob:https:",
    ]
)
slashes = st.sampled_from(["//", "/", "", "///", "\\\\", "/\\", "\\/", "/\t/", "//\n", "%2f%2f", "／／"])
hosts = st.sampled_from(
    "shop.example evil.example www.shop.example shop.example.evil.example evilshop.example SHOP.EXAMPLE shop。example"
    " ｓｈｏｐ.example sh%6fp.example evil.example%2f.shop.example evil.example%00.shop.example shop.example."
    " .shop.example 127.0.0.1 127.1 0x7f000001 2130706433 0177.0.0.1 [::1] [::ffff:127.0.0.1] 192.0.2.7 3221225991"
    " xn--shop-.example localhost 169.254.169.254 evil.example：80 evil.example／.shop.example other.example"
    " ⓢhop.example shop.exampl℮".split()
)
between = st.sampled_from(
    ["", "@", ":", ":@", "\\@", "#@", "?@", "/@", ";", ",", "&", "%40", "\t", "\r\n", " ", "\0", ":443", ":8443"]
)
urls = (
    st.builds(
        lambda scheme, slash, first, mark, second, rest: scheme + slash + first + mark + second + rest,
        *(schemes, slashes, hosts, between, hosts | st.just(""), texts.map("/".__add__) | pieces | st.just("")),
    )
    | texts
)


@examples(400)
@given(urls)
def test_a_deep_link_that_passes_is_the_shops(url: str) -> None:
    url = url.encode("utf-8", "replace").decode()  # as out of a query
    passed = allowed(url, HOSTS)
    if passed is None:
        return
    assert re.fullmatch("[!-~]+", passed) and PASSES.match(passed)
    read = parse_url(passed)
    assert (read["href"], read["username"], read["password"]) == (passed, "", "")
    assert parse_url(url)["href"] == passed, "a browser would go elsewhere by what was asked for"
    sent = with_click_id(passed, "click_id", "A" * 32)
    assert re.fullmatch("[!-~]+", sent)
    assert parse_url(sent)["origin"] == read["origin"] and parse_url(sent)["pathname"] == read["pathname"]
    assert sent.count("click_id=" + "A" * 32) == 1


def test_some_pass() -> None:
    """Else the property above says nothing."""
    assert allowed("https:////sh%6fp.example:443/a", HOSTS) == "https://shop.example/a"


@examples(200)
@given(urls)
def test_a_destination_that_is_stored_is_a_web_address(url: str) -> None:
    try:
        template = compile_template(url)
    except DestinationError:
        return
    sent = template.expand({name: "//evil.example\r\n@" for name in template.macros})
    assert re.fullmatch("https?://[!-~]+", sent)
    assert parse_url(sent)["host"] == parse_url(template.expand({}))["host"]


@pytest.mark.parametrize(
    "hosts", [(), ("",), ("*",), ("*.example",), ("https://shop.example",), ("*.com",), ("shop.example/",)]
)
def test_rules_that_say_nothing_allow_nothing(hosts: tuple[str, ...]) -> None:
    assert allowed("https://shop.example/", hosts) is None
