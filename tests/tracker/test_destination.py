"""Where a click goes: open-redirect payloads, oddities of the WHATWG parser, macros, the click id."""

import re
import string

import pytest
from ada_url import parse_url
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracker import destination, web_address
from tracker.deep_links import allowed, check_allowed_host
from tracker.destination import (
    MACRO_USES_MAX,
    MACROS,
    check_template,
    compile_click_param,
    compile_template,
    with_click_id,
)
from tracker.web_address import URL_LENGTH_MAX, DestinationError

HEADER_SAFE = re.compile(r"[!-~]*")
CLICK_ID = "AbCdEfGhIjKlMnOpQrStUvWxYz012-_9"
click_ids = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=32)


def is_header_safe(url: str) -> bool:
    return HEADER_SAFE.fullmatch(url) is not None


# Stored destinations


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/",
        "https://shop.example",
        "HTTPS://SHOP.example/Boots",
        "http://localhost:8082/landing",
        "http://127.0.0.1:8082/",
        "http://[::1]:8082/",
        "https://shop.example/?utm_source={affiliate}",
        "https://shop.example/{program}/{link}?c={click_id}#{sub1}",
        "https://shop.example?c={click_id}",
        "https://shop.example#{click_id}",
        "https://shop.example/größe?farbe=grün",
        "https://bücher.example/",
        "https://shop.example/red boots?q=red boots",
        "https://shop.example/?u=https%3A%2F%2Fother.example%2F",
        "https://shop.example/?q=%7Bclick_id%7D",
        "https://shop.example/user@home?mail=a@b.example",
        "https://shop.example/a:b",
        "https://shop.example/macro0z?macro1z={sub1}",
        "https://shop.example/100%/x",
        "https://shop.example/" + "".join(f"{{{name}}}" for name in sorted(MACROS)),
        "https://shop.example/?" + "{sub1}" * MACRO_USES_MAX,
        "https://shop.example/" + "a" * (URL_LENGTH_MAX - 21),
    ],
)
def test_destinations_that_are_accepted(url: str) -> None:
    check_template(url)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "url_scheme"),
        ("shop.example", "url_scheme"),
        ("/boots", "url_scheme"),
        ("//shop.example/", "url_scheme"),
        ("javascript:alert(1)", "url_scheme"),
        ("data:text/html,x", "url_scheme"),
        ("ftp://shop.example/", "url_scheme"),
        ("https:shop.example", "url_scheme"),
        ("https:/shop.example", "url_scheme"),
        ("https:///shop.example", "url_scheme"),
        ("https://", "url_scheme"),
        ("https://?q", "url_scheme"),
        ("view-source:https://shop.example/", "url_scheme"),
        ("{sub1}://shop.example/", "url_scheme"),
        ("http{sub1}://shop.example/", "url_scheme"),
        ("{sub1}", "url_scheme"),
        ("https://user@shop.example/", "url_credentials"),
        ("https://user:secret@shop.example/", "url_credentials"),
        ("https://@shop.example/", "url_credentials"),
        ("https://shop.example:x@evil.example/", "url_credentials"),
        ("https://{sub1}@shop.example/", "macro_in_host"),
        ("https://{sub1}.shop.example/", "macro_in_host"),
        ("https://{sub1}/", "macro_in_host"),
        ("https://shop.example{sub1}", "macro_in_host"),
        ("https://shop.example:{sub1}/", "macro_in_host"),
        ("https://shop.example:80{sub1}/", "macro_in_host"),
        ("https://{shop}.example/", "macro_in_host"),
        ("https://shop}.example/", "macro_in_host"),
        ("https:///{sub1}.evil.example/", "url_scheme"),
        ("https://%7Bsub1%7D.example/", "url_host"),
        ("https://｛sub1｝.example/", "url_host"),
        ("https://shop.example/\\evil", "url_characters"),
        ("https:\\\\shop.example/", "url_characters"),
        ("https://shop.example/\r\nSet-Cookie: x=1", "url_characters"),
        ("https://shop.example/\tx", "url_characters"),
        ("https://shop.example/\x00", "url_characters"),
        ("https://shop.example/\x7f", "url_characters"),
        ("https://shop.example/\x85", "url_characters"),
        (" https://shop.example/", "url_characters"),
        ("https://shop.example/ ", "url_characters"),
        ("https://shop.example:99999/", "url_malformed"),
        ("https://shop.example:port/", "url_malformed"),
        ("https://sh<op.example/", "url_malformed"),
        ("https://sh op.example/", "url_malformed"),
        ("https://256.1.1.1/", "url_malformed"),
        ("https://[::1/", "url_malformed"),
        ("https://shop.example/\ud800", "url_malformed"),
        ('https://"shop.example/', "url_host"),
        ("https://shop.example/{foo}", "macro_unknown"),
        ("https://shop.example/{CLICK_ID}", "macro_unknown"),
        ("https://shop.example/{ click_id }", "macro_unknown"),
        ("https://shop.example/{}", "macro_unknown"),
        ("https://shop.example/{sub6}", "macro_unknown"),
        ("https://shop.example/{sub0}", "macro_unknown"),
        ("https://shop.example/{{click_id}}", "macro_unknown"),
        ("https://shop.example/${click_id", "macro_unknown"),
        ("https://shop.example/click_id}", "macro_unknown"),
        ("https://shop.example/{payout}", "macro_unknown"),
        ("https://shop.example/%{sub1}", "macro_in_escape"),
        ("https://shop.example/%2{sub1}", "macro_in_escape"),
        ("https://shop.example/?q=%0{sub1}", "macro_in_escape"),
        ("https://shop.example/{sub1}/../x", "macro_lost"),
        ("https://shop.example/{sub1}/%2E%2e", "macro_lost"),
        ("https://shop.example/.{sub1}", "macro_in_dot_segment"),
        ("https://shop.example/a/..{sub1}/b", "macro_in_dot_segment"),
        ("https://shop.example/a/%2e{sub1}", "macro_in_dot_segment"),
        ("https://shop.example/?" + "{sub1}" * (MACRO_USES_MAX + 1), "macros_too_many"),
        ("https://shop.example/" + "a" * (URL_LENGTH_MAX - 20), "url_too_long"),
        ("https://shop.example/" + "ä" * 400, "url_too_long"),
    ],
)
def test_destinations_that_are_refused(url: str, code: str) -> None:
    with pytest.raises(DestinationError) as refusal:
        check_template(url)
    assert (refusal.value.code, str(refusal.value) != "") == (code, True)


@pytest.mark.parametrize(
    ("url", "values", "expected"),
    [
        ("https://shop.example", {}, "https://shop.example/"),
        ("HTTPS://SHOP.example:443/A", {}, "https://shop.example/A"),
        ("https://bücher.example/größe", {}, "https://xn--bcher-kva.example/gr%C3%B6%C3%9Fe"),
        ("https://shop.example/a b?c d#e f", {}, "https://shop.example/a%20b?c%20d#e%20f"),
        ("https://shop.example/?c={click_id}", {"click_id": CLICK_ID}, f"https://shop.example/?c={CLICK_ID}"),
        ("https://shop.example?c={click_id}", {"click_id": "x"}, "https://shop.example/?c=x"),
        ("https://shop.example/{sub1}{sub2}", {"sub1": "a", "sub2": "b"}, "https://shop.example/ab"),
        ("https://shop.example/{sub1}{sub1}", {"sub1": "a"}, "https://shop.example/aa"),
        ("https://shop.example/?a={sub1}&b={sub2}", {"sub2": "2"}, "https://shop.example/?a=&b=2"),
        ("https://shop.example/{sub1}/x", {"sub1": "a/b?c#d"}, "https://shop.example/a%2Fb%3Fc%23d/x"),
        (
            "https://shop.example/?a={sub1}",
            {"sub1": "1&b=2#c +"},
            "https://shop.example/?a=1%26b%3D2%23c%20%2B",
        ),
        ("https://shop.example/#{sub1}", {"sub1": '"<>`'}, "https://shop.example/#%22%3C%3E%60"),
        ("https://shop.example/?a={sub1}", {"sub1": "{click_id}"}, "https://shop.example/?a=%7Bclick_id%7D"),
        ("https://shop.example/?a={sub1}", {"sub1": "%41"}, "https://shop.example/?a=%2541"),
        ("https://shop.example/?a={sub1}", {"sub1": "\r\nX: y"}, "https://shop.example/?a=%0D%0AX%3A%20y"),
        ("https://shop.example/?a={sub1}", {"sub1": "\ud800"}, "https://shop.example/?a=%3F"),
        ("https://shop.example/{sub1}/x", {"sub1": ".."}, "https://shop.example//x"),
        ("https://shop.example/{sub1}/x", {"sub1": "."}, "https://shop.example//x"),
        ("https://shop.example/{sub1}{sub2}/x", {"sub1": ".", "sub2": "."}, "https://shop.example//x"),
        ("https://shop.example/{sub1}", {"sub1": "%2e%2e"}, "https://shop.example/%252e%252e"),
        ("https://shop.example/{sub1}", {"sub1": "..."}, "https://shop.example/..."),
        ("https://shop.example/?a={sub1}", {"sub1": ".."}, "https://shop.example/?a=.."),
        ("https://shop.example/#/{sub1}", {"sub1": ".."}, "https://shop.example/#/.."),
        (
            "https://shop.example/{sub1}",
            {"sub1": "//evil.example"},
            "https://shop.example/%2F%2Fevil.example",
        ),
        ("https://shop.example/?a={sub1}", {"sub1": "x" * 300}, "https://shop.example/?a=" + "x" * 256),
        ("https://shop.example/?a={sub1}", {"sub1": "x" * 255 + "ä"}, "https://shop.example/?a=" + "x" * 255),
        ("https://shop.example/?a={sub1}", {"sub1": "ä" * 200}, "https://shop.example/?a=" + "%C3%A4" * 128),
        ("https://shop.example/macro0z?{sub1}", {"sub1": "y"}, "https://shop.example/macro0z?y"),
        ("https://macro0z.example/?{sub1}", {"sub1": "y"}, "https://macro0z.example/?y"),
        ("https://ｍａｃｒｏ0z.example/?{sub1}", {"sub1": "y"}, "https://macro0z.example/?y"),
    ],
)
def test_what_a_destination_becomes(url: str, values: dict[str, str], expected: str) -> None:
    assert compile_template(url).expand(values) == expected


def test_a_destination_without_macros_is_one_constant_string() -> None:
    template = compile_template("https://shop.example/boots")
    assert template.constant is template.expand({"sub1": "x"})
    assert template.macros == frozenset()


def test_a_destination_with_macros_names_them() -> None:
    template = compile_template("https://shop.example/{sub1}?c={click_id}&s={sub1}")
    assert template.constant is None
    assert template.macros == {"click_id", "sub1"}


template_texts = st.lists(
    st.one_of(
        st.sampled_from([f"{{{name}}}" for name in sorted(MACROS)]),
        st.sampled_from(["/", "?", "#", "&", "=", ".", "..", "%", "%2e", "%41", "macro0z", "a", "ä", " ", "'"]),
        st.text(max_size=5),
    ),
    max_size=12,
).map(lambda parts: "https://shop.example/" + "".join(parts))
macro_values = st.dictionaries(
    st.sampled_from(sorted(MACROS)),
    st.one_of(st.text(max_size=300), st.sampled_from([".", "..", "%2e", "/.."])),
)


@given(template_texts, macro_values)
def test_a_value_stays_in_its_place(url: str, values: dict[str, str]) -> None:
    """Whatever the values: the same host, as many path segments, and a URL that the parser leaves alone."""
    try:
        template = compile_template(url)
    except DestinationError:
        return
    expanded, empty = template.expand(values), template.expand({})
    assert is_header_safe(expanded)
    parsed, parsed_empty = parse_url(expanded), parse_url(empty)
    assert parsed["href"] == expanded
    assert parsed["origin"] == "https://shop.example"
    assert parsed["pathname"].count("/") == parsed_empty["pathname"].count("/")
    assert parsed["search"].count("&") == parsed_empty["search"].count("&")
    assert bool(parsed["search"]) == bool(parsed_empty["search"]) or "?" in empty
    assert ("#" in expanded) == ("#" in empty)


@given(st.text())
@example("https://a/\u2028")
def test_any_text_is_refused_or_becomes_a_safe_constant(url: str) -> None:
    for candidate in (url, "https://" + url, "https://shop.example/" + url):
        try:
            template = compile_template(candidate)
        except DestinationError as refusal:
            assert refusal.code
            continue
        assert is_header_safe(template.expand({}))
        assert template.expand({}).startswith(("http://", "https://"))


# Deep links

SHOP = ("shop.example", "*.shop.example")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example/boots?size=42#top", "https://shop.example/boots?size=42#top"),
        ("http://shop.example/", "http://shop.example/"),
        ("HTTPS://Shop.EXAMPLE/A", "https://shop.example/A"),
        ("https://www.shop.example/", "https://www.shop.example/"),
        ("https://a.b.shop.example/", "https://a.b.shop.example/"),
        ("https://shop.example:443/", "https://shop.example/"),
        ("http://shop.example:80/", "http://shop.example/"),
        ("https://shop.example:0443/", "https://shop.example/"),
        ("https://shop.example:/", "https://shop.example/"),
        ("https://shop.example./", "https://shop.example./"),
        ("https://a.shop.example./", "https://a.shop.example./"),
        ("https://shop。example/", "https://shop.example/"),
        ("https://ｓｈｏｐ.example/", "https://shop.example/"),
        ("https://shop%2Eexample/", "https://shop.example/"),
        ("https://sh\u00adop.example/", "https://shop.example/"),
        ("https:shop.example/x", "https://shop.example/x"),
        ("https:/shop.example/x", "https://shop.example/x"),
        ("https:////shop.example/x", "https://shop.example/x"),
        ("https://@shop.example/", "https://shop.example/"),
        ("https://shop.example/a/../../b", "https://shop.example/b"),
        ("https://shop.example/%2e%2e/b", "https://shop.example/b"),
        ("https://shop.example//evil.example/", "https://shop.example//evil.example/"),
        ("https://shop.example/red boots?q=a b", "https://shop.example/red%20boots?q=a%20b"),
        ("https://shop.example/größe", "https://shop.example/gr%C3%B6%C3%9Fe"),
        ("https://shop.example/?u=https://evil.example/", "https://shop.example/?u=https://evil.example/"),
        ("https://shop.example?@evil.example", "https://shop.example/?@evil.example"),
        ("https://shop.example#@evil.example", "https://shop.example/#@evil.example"),
        ("https://shop.example/@evil.example", "https://shop.example/@evil.example"),
        ("https://shop.example/{click_id}?c={ref}", "https://shop.example/%7Bclick_id%7D?c={ref}"),
    ],
)
def test_deep_links_that_pass(url: str, expected: str) -> None:
    assert allowed(url, SHOP) == expected


@pytest.mark.parametrize(
    "url",
    [
        # no scheme, or one that is no web address
        *(
            "",
            " ",
            "/",
            "//",
            "/boots",
            "boots",
            "?",
            "#",
            ".",
            "//shop.example/",
            "///shop.example",
            "shop.example",
        ),
        *(
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "javascript://shop.example/%0aalert(1)",
            "java\nscript:x",
        ),
        *("data:text/html,<script>x</script>", "vbscript:x", "file:///etc/passwd", "file://shop.example/x"),
        *("ftp://shop.example/", "ws://shop.example/", "wss://shop.example/", "mailto:a@shop.example"),
        *(
            "blob:https://shop.example/x",
            "view-source:https://shop.example/",
            "intent://shop.example/#Intent;end",
        ),
        *(
            "about:blank",
            "chrome://shop.example",
            "httpss://shop.example",
            "http",
            "http:",
            "https://",
            "https:///",
        ),
        *("://shop.example", ":https://shop.example", "https//shop.example"),
        # another host
        *(
            "https://evil.example/",
            "//evil.example/",
            "///evil.example",
            "https:evil.example",
            "https:/evil.example",
        ),
        *("https://shop.example.evil.example/", "https://evilshop.example/", "https://evil-shop.example/"),
        *("https://shop.exampleevil/", "https://shopxexample/", "https://example/", "https://shop/"),
        *(
            "https://evil.example/shop.example",
            "https://evil.example?shop.example",
            "https://evil.example#shop.example",
        ),
        *("https://evil.example/?https://shop.example", "https://evil.example%23.shop.example.evil.example"),
        *(
            "https://evil.example;shop.example/",
            "https://evil.example,shop.example/",
            "https://evil.example&shop.example",
        ),
        *(
            "https://evil.example$.shop.example/",
            "https://evil.example(.shop.example/",
            "https://'.shop.example/",
        ),
        *(
            'https://".shop.example/',
            "https://{sub1}.shop.example/",
            "https://%7B.shop.example/",
            "https://a!.shop.example",
        ),
        # credentials
        *(
            "https://shop.example@evil.example/",
            "https://shop.example:x@evil.example/",
            "https://a:b@shop.example/",
        ),
        *("https://a@shop.example/", "https://:b@shop.example/", "https://shop.example%40evil.example/"),
        *(
            "https://evil.example@shop.example/",
            "https://evil.example:443@shop.example",
            "https://@@shop.example",
        ),
        *(
            "https:shop.example@evil.example",
            "https://evil.example%40@shop.example",
            "https://shop.example@@evil.example",
        ),
        *("https://shop.example:443@evil.example/", "https://shop.example：80@evil.example/"),
        # backslashes
        *(
            "https:\\\\shop.example",
            "https://shop.example\\@evil.example",
            "https://evil.example\\@shop.example",
        ),
        *("https://evil.example\\.shop.example", "\\\\evil.example", "/\\evil.example", "\\/evil.example"),
        *(
            "https:/\\evil.example",
            "https:\\/evil.example",
            "https://shop.example/\\x",
            "https://shop.example/?q=\\",
        ),
        # control characters, white space
        *(
            "https://shop.example/\r\nX: y",
            "https://shop.example/\n",
            "\nhttps://shop.example/",
            "https://shop.example\t/",
        ),
        *(
            "ht\ttps://shop.example/",
            "https://sh\nop.example/",
            "h\rttps://evil.example",
            "https://shop.example/\x00",
        ),
        *(
            "\x00https://shop.example/",
            "\x01https://shop.example/",
            "https://shop.example/\x1f",
            "https://shop.example\x7f",
        ),
        *(
            " https://shop.example/",
            "https://shop.example/ ",
            "https://shop.example /",
            "https:// shop.example/",
        ),
        *(
            "https://shop.example/\x85",
            "https://shop.example/\x9b",
            "\u3000https://shop.example/",
            "\ufeffhttps://shop.example",
        ),
        *(
            "https://evil.example\x00.shop.example/",
            "https://evil.example\x00shop.example/",
            "https://shop.example\x0b/",
        ),
        *(
            "https://evil.example%00.shop.example",
            "https://evil.example%0a.shop.example",
            "https://evil.example%09.shop.example",
        ),
        *(
            "https://evil.example%20.shop.example",
            "https://evil.example%2f.shop.example",
            "https://evil.example%5c.shop.example",
        ),
        *(
            "https://evil.example%3f.shop.example",
            "https://evil.example%23.shop.example",
            "https://evil.example%3a.shop.example",
        ),
        # look-alikes and characters that IDNA maps to delimiters
        *(
            "https://evil.example／.shop.example",
            "https://evil.example？.shop.example",
            "https://evil.example＃.shop.example",
        ),
        *(
            "https://evil.example＠shop.example",
            "https://evil.example：80.shop.example",
            "https://evil.example＼.shop.example",
        ),
        *(
            "https://evil.example℀.shop.example",
            "https://evil.example℅.shop.example",
            "https://shоp.example/",
        ),
        *(
            "https://shöp.example",
            "https://ſhop.example.evil.example",
            "https://evil.example｡shop.example.evil.example",
        ),
        # empty labels, dots
        *(
            "https://.shop.example/",
            "https://a..shop.example/",
            "https://shop.example../",
            "https://..shop.example",
        ),
        *("https://./", "https://../", "https://shop..example/", "https://.shop.example./"),
        # ports
        *(
            "https://shop.example:8443/",
            "http://shop.example:443/",
            "https://shop.example:80/",
            "https://shop.example:0/",
        ),
        *(
            "https://shop.example:65536/",
            "https://shop.example:-1/",
            "https://shop.example:4 43/",
            "https://shop.example:４４３４/",
        ),
        *("https://shop.example:443:443/", "https://shop.example:evil.example/", "https://a.shop.example:22"),
        # IP literals
        *(
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
        ),
        *(
            "http://0/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/",
            "http://1.1.1.1.shop.1/",
        ),
        *(
            "http://①②⑦.0.0.1/",
            "http://[fe80::1%25eth0]/",
            "http://[shop.example]/",
            "http://[::1].shop.example/",
        ),
        # what cannot be encoded, what is too long
        *("https://shop.example/\ud800", "https://\udc80shop.example/"),
        "https://shop.example/" + "a" * URL_LENGTH_MAX,
        "https://shop.example/" + "ä" * 400,
        "https://" + "a." * 130 + "shop.example/",
    ],
)
def test_deep_links_that_are_refused(url: str) -> None:
    assert allowed(url, SHOP) is None


@pytest.mark.parametrize(
    ("entries", "url", "passes"),
    [
        ([], "https://shop.example/", False),
        (["*"], "https://shop.example/", False),
        (["*.example"], "https://shop.example/", False),
        (["https://shop.example"], "https://shop.example/", False),
        (["*.example", "shop.example"], "https://shop.example/", True),
        (["shop.example"], "https://a.shop.example/", False),
        (["*.shop.example"], "https://shop.example/", False),
        (["*.shop.example"], "https://shop.example./", False),
        (["*.shop.example"], "https://a.shop.example/", True),
        (["*.shop.example"], "https://a.b.shop.example/", True),
        (["*.shop.example"], "https://ashop.example/", False),
        (["SHOP.Example"], "https://shop.example/", True),
        (["shop.example."], "https://shop.example/", True),
        (["*.shop.example."], "https://a.shop.example./", True),
        (["bücher.example"], "https://xn--bcher-kva.example/", True),
        (["xn--bcher-kva.example"], "https://BÜCHER.example/", True),
        (["*.bücher.example"], "https://a.bücher.example/", True),
        (["localhost:8082"], "http://localhost:8082/x", True),
        (["localhost:8082"], "http://localhost/x", False),
        (["localhost:8082"], "http://localhost:8083/x", False),
        (["shop.localhost:8082"], "http://shop.localhost:8082/x", True),
        (["localhost"], "http://localhost/", True),
        (["shop.example:8443"], "https://shop.example:8443/", True),
        (["shop.example:08443"], "https://shop.example:8443/", True),
        (["shop.example:8443"], "https://shop.example/", False),
        (["shop.example:443"], "https://shop.example/", True),
        (["shop.example:443"], "http://shop.example/", False),
        (["shop.example:443"], "http://shop.example:443/", True),
        (["*.shop.example:8443"], "https://a.shop.example:8443/", True),
        (["*.shop.example:8443"], "https://a.shop.example/", False),
        (["127.0.0.1"], "http://127.0.0.1/", True),
        (["127.0.0.1"], "http://2130706433/", True),
        (["127.0.0.1"], "http://127.0.0.1:8082/", False),
        (["127.0.0.1:8082"], "http://127.0.0.1:8082/", True),
        (["127.0.0.1"], "http://127.0.0.2/", False),
        (["[::1]"], "http://[::1]/", True),
        (["[::1]:8082"], "http://[0:0:0:0:0:0:0:1]:8082/", True),
        (["[::1]"], "http://[::2]/", False),
        (["127.0.0.1"], "http://[::ffff:127.0.0.1]/", False),
    ],
)
def test_the_allow_list(entries: list[str], url: str, passes: bool) -> None:
    assert (allowed(url, entries) is not None) is passes


@pytest.mark.parametrize("entry", ["shop.example", "*.shop.example", "localhost:8082", "[::1]:80", "10.0.0.1", "co.uk"])
def test_allow_list_entries_that_are_accepted(entry: str) -> None:
    check_allowed_host(entry)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("", "host_malformed"),
        (" shop.example", "host_malformed"),
        ("shop.example ", "host_malformed"),
        ("shop.example\n", "host_malformed"),
        ("https://shop.example", "host_malformed"),
        ("shop.example/", "host_malformed"),
        ("shop.example/boots", "host_malformed"),
        ("shop.example?x", "host_malformed"),
        ("user@shop.example", "host_malformed"),
        ("shop.example:", "host_malformed"),
        ("shop.example:0", "host_malformed"),
        ("shop.example:65536", "host_malformed"),
        ("shop.example:http", "host_malformed"),
        ("shop.example:١", "host_malformed"),
        ("shop\\.example", "host_malformed"),
        ("shop%2eexample", "host_malformed"),
        ("*", "host_malformed"),
        ("*.*", "host_malformed"),
        ("*.", "host_malformed"),
        ("*shop.example", "host_malformed"),
        ("a.*.shop.example", "host_malformed"),
        ("shop.*", "host_malformed"),
        ("*.*.shop.example", "host_malformed"),
        (".", "host_malformed"),
        ("..", "host_malformed"),
        (".shop.example", "host_malformed"),
        ("shop..example", "host_malformed"),
        ("shop.example..", "host_malformed"),
        ("sh{op.example", "host_malformed"),
        ("sh<op.example", "host_malformed"),
        ("::1", "host_malformed"),
        ("[::1", "host_malformed"),
        ("[::g]", "host_malformed"),
        ("256.0.0.1", "host_malformed"),
        ("a" * 254, "host_malformed"),
        ("*.com", "host_wildcard"),
        ("*.com.", "host_wildcard"),
        ("*.localhost", "host_wildcard"),
        ("*.0.0.1", "host_wildcard"),
        ("*.[::1]", "host_wildcard"),
    ],
)
def test_allow_list_entries_that_are_refused(entry: str, code: str) -> None:
    with pytest.raises(DestinationError) as refusal:
        check_allowed_host(entry)
    assert refusal.value.code == code
    assert allowed("https://shop.example/", [entry]) is None


url_parts = st.lists(
    st.one_of(
        st.sampled_from(["https:", "http:", "/", "//", "\\", "@", ":", ".", "shop.example", "evil.example", "a"]),
        st.sampled_from(["%2e", "%40", "%5c", "%2f", "?", "#", "\t", "\n", " ", "：", "／", "。", "＠", "443", "8443"]),
        st.characters(),
    ),
    max_size=12,
).map("".join)


@given(st.one_of(st.text(), url_parts, url_parts.map(lambda text: "https://shop.example" + text)))
@example("https://shop.example/\u2028 x")
def test_a_deep_link_never_leaves_the_allow_list(url: str) -> None:
    """Whatever comes in, what goes out is a safe header and, read again, on an allowed host."""
    accepted = allowed(url, SHOP)
    if accepted is None:
        return
    assert is_header_safe(accepted)
    assert len(accepted) <= URL_LENGTH_MAX
    parsed = parse_url(accepted)
    assert parsed["href"] == accepted
    assert parsed["protocol"] in ("http:", "https:")
    assert (parsed["username"], parsed["password"], parsed["port"]) == ("", "", "")
    host = parsed["hostname"].removesuffix(".")
    assert host == "shop.example" or host.endswith(".shop.example")
    assert allowed(accepted, SHOP) == accepted


@given(st.text())
def test_an_entry_is_refused_or_allows_its_own_host(entry: str) -> None:
    try:
        check_allowed_host(entry)
    except DestinationError:
        assert allowed(f"https://{entry}/", [entry]) is None
    else:
        host = entry.replace("*", "www")
        assert allowed(f"https://{host}/", [entry]) is not None


# The click id


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://s.example/", "https://s.example/?click_id=ID"),
        ("https://s.example/a", "https://s.example/a?click_id=ID"),
        ("https://s.example/?", "https://s.example/?click_id=ID"),
        ("https://s.example/?a=1", "https://s.example/?a=1&click_id=ID"),
        ("https://s.example/?a=1&", "https://s.example/?a=1&click_id=ID"),
        ("https://s.example/?&", "https://s.example/?&click_id=ID"),
        ("https://s.example/?&&a", "https://s.example/?&&a&click_id=ID"),
        ("https://s.example/#f", "https://s.example/?click_id=ID#f"),
        ("https://s.example/#", "https://s.example/?click_id=ID#"),
        ("https://s.example/?a=1#f", "https://s.example/?a=1&click_id=ID#f"),
        ("https://s.example/#f?click_id=1", "https://s.example/?click_id=ID#f?click_id=1"),
        ("https://s.example/?#?a&b", "https://s.example/?click_id=ID#?a&b"),
        ("https://s.example/?a=1?b=2", "https://s.example/?a=1?b=2&click_id=ID"),
        ("https://s.example/?click_id=old", "https://s.example/?click_id=ID"),
        ("https://s.example/?click_id", "https://s.example/?click_id=ID"),
        ("https://s.example/?click_id=", "https://s.example/?click_id=ID"),
        ("https://s.example/?click_id=a=b", "https://s.example/?click_id=ID"),
        ("https://s.example/?a=1&click_id=old&b=2", "https://s.example/?a=1&click_id=ID&b=2"),
        ("https://s.example/?click_id=1&a&click_id=2#f", "https://s.example/?click_id=ID&a#f"),
        ("https://s.example/?click_id=1&click_id=2&", "https://s.example/?click_id=ID&"),
        ("https://s.example/?click%5Fid=1", "https://s.example/?click_id=ID"),
        ("https://s.example/?%63%6c%69%63%6B_id=1&x", "https://s.example/?click_id=ID&x"),
        ("https://s.example/?Click_Id=1", "https://s.example/?Click_Id=1&click_id=ID"),
        ("https://s.example/?click_id2=1", "https://s.example/?click_id2=1&click_id=ID"),
        ("https://s.example/?a=click_id", "https://s.example/?a=click_id&click_id=ID"),
        ("https://s.example/?a=%zz&b=%C3%28&c=+", "https://s.example/?a=%zz&b=%C3%28&c=+&click_id=ID"),
        ("https://s.example/click_id=1", "https://s.example/click_id=1?click_id=ID"),
    ],
)
def test_where_the_click_id_goes(url: str, expected: str) -> None:
    assert with_click_id(url, "click_id", "ID") == expected


def test_a_parameter_name_that_needs_encoding_is_found_in_any_spelling() -> None:
    assert with_click_id("https://s.example/?a+b=1&%61%20b=2", "a b", "ID") == "https://s.example/?a%20b=ID"


def test_a_url_that_is_no_header_is_encoded() -> None:
    """The redirect gives only checked URLs; still nothing else gets out."""
    assert with_click_id("https://s.example/ä\r\nX: y", "c", "1 2") == "https://s.example/%C3%A4%0D%0AX:%20y?c=1%202"


destinations = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["?", "#", "&", "=", "c", "%63", "x", "+", "%", "ä", " "]), max_size=15).map("".join),
).map(lambda text: "https://s.example/" + text)
parameters = st.one_of(st.just("c"), st.text(min_size=1, max_size=3))


@given(destinations, parameters, click_ids)
def test_the_click_id_is_a_concatenation(url: str, param: str, click_id: str) -> None:
    prefix, suffix = compile_click_param(url, param)
    assert prefix + click_id + suffix == with_click_id(url, param, click_id)


@given(destinations, parameters, st.text())
def test_a_url_with_any_click_id_is_a_safe_header(url: str, param: str, click_id: str) -> None:
    assert is_header_safe(with_click_id(url, param, click_id))


@given(
    st.lists(st.sampled_from(["", "a", "a=1", "b=%20", "c", "c=1", "%63=2", "=", "c%", "=c", "+"]), max_size=6),
    st.sampled_from(["", "#", "#f", "#?c=1&c=2"]),
    click_ids,
)
def test_the_click_id_is_there_once_and_all_else_is_kept(pieces: list[str], fragment: str, click_id: str) -> None:
    url = "https://s.example/x?" + "&".join(pieces) + fragment
    address, _, query = with_click_id(url, "c", click_id).removesuffix(fragment).partition("?")
    assert address == "https://s.example/x"
    found = query.split("&")
    assert found.count(f"c={click_id}") == 1
    kept = [piece for piece in pieces if piece and piece.partition("=")[0] not in ("c", "%63")]
    assert [piece for piece in found if piece and piece != f"c={click_id}"] == kept


@given(template_texts, macro_values, click_ids)
def test_a_click_leaves_a_url_that_the_parser_does_not_change(url: str, values: dict[str, str], click_id: str) -> None:
    try:
        expanded = compile_template(url).expand(values)
    except DestinationError:
        return
    final = with_click_id(expanded, "click_id", click_id)
    assert parse_url(final)["href"] == final
    assert parse_url(final)["origin"] == "https://shop.example"


@settings(deadline=None)
@given(st.from_regex(destination._PLAIN, fullmatch=True))
def test_a_plain_address_is_what_a_parser_makes_of_it(url: str) -> None:
    """It is not taken apart: that would change nothing, and refuse nothing."""
    assert web_address.parse(url).href == url
    assert with_click_id(url, "é=", "x") == with_click_id(url + "#", "é=", "x")[:-1]
    assert compile_template(url).expand({}) == compile_template(url + "{sub1}").expand({}) == url


@pytest.mark.parametrize(
    "url",
    ["https://s.test", "https://1.2.3.4/", "https://s.0x7f/", "https://S.test/", "https://s.test:443/", "https://s/",
     "https://s.test/a/../b", "https://s.test/./", "https://s.test/%2e%2e/", "https://u@s.test/", "https://xn--a.test/",
     "https://s.test/a b", "https://s.test/\\", "https://s.test/{sub1}", "ftp://s.test/", "https://s.test/?"],
)  # fmt: skip
def test_what_a_parser_might_write_otherwise_is_not_plain(url: str) -> None:
    assert not destination._PLAIN.fullmatch(url)
