"""Why a click is flagged, and who sent it: tables of real header values, then properties over any bytes."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from is_bot import Bots

from tracker.filters import (
    ADDRESS_CHARACTERS_MAX,
    FORWARDED_HOPS_MAX,
    USER_AGENT_BYTES_MAX,
    IpMode,
    TrustedProxies,
    client_ip,
    forwarded_proto,
    ip_for_storage,
    is_bot,
    is_navigation,
    is_prefetch,
    is_within,
    normalise_ip,
    truncate_ip,
)

CHROME = (
    b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)


# Prefetching


@pytest.mark.parametrize(
    ("name", "value", "flagged"),
    [
        (b"sec-purpose", b"prefetch", True),
        (b"sec-purpose", b"prefetch;prerender", True),
        (b"sec-purpose", b"prefetch; prerender", True),
        (b"sec-purpose", b"prefetch;anonymous-client-ip", True),
        (b"sec-purpose", b"prefetch;prerender;preview", True),
        (b"sec-purpose", b"PREFETCH", True),
        (b"sec-purpose", b"prefetch, prerender", True),
        (b"purpose", b"prefetch", True),
        (b"purpose", b"Prefetch", True),
        (b"purpose", b"preview", True),
        (b"x-moz", b"prefetch", True),
        (b"x-purpose", b"preview", True),
        (b"x-purpose", b" prerender ", True),
        (b"sec-purpose", b"", False),
        (b"purpose", b"navigate", False),
        (b"purpose", b"prefetching", False),
        (b"purpose", b"not prefetch", False),
        (b"x-purpose", b"\xff\x00", False),
        (b"x-other", b"prefetch", False),
    ],
)
def test_prefetching_is_seen(name: bytes, value: bytes, flagged: bool) -> None:
    assert is_prefetch({b"host": b"localhost", name: value}) is flagged


def test_a_request_without_those_headers_is_no_prefetch() -> None:
    assert not is_prefetch({})


def test_any_of_the_headers_is_enough() -> None:
    assert is_prefetch({b"sec-purpose": b"", b"purpose": b"x", b"x-moz": b"prefetch"})


@pytest.mark.parametrize(
    ("mode", "dest", "billable"),
    [
        (None, None, True),
        (b"", b"", True),
        (b"navigate", None, True),
        (b"navigate", b"document", True),
        (None, b"document", True),
        (b"navigate", b"iframe", False),
        (b"navigate", b"frame", False),
        (b"navigate", b"object", False),
        (b"navigate", b"embed", False),
        (b"no-cors", b"image", False),
        (b"no-cors", b"script", False),
        (b"no-cors", b"empty", False),
        (b"cors", b"empty", False),
        (b"same-origin", b"empty", False),
        (b"no-cors", None, False),
        (None, b"image", False),
        (b"nested-navigate", b"document", False),
        (b"\xff", b"document", False),
    ],
)
def test_only_a_followed_link_is_a_navigation(mode: bytes | None, dest: bytes | None, billable: bool) -> None:
    assert is_navigation(mode, dest) is billable


# Bots

WEBKIT = b"AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = b"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
PEOPLE = [
    CHROME,
    CHROME + b" Edg/126.0.0.0",
    b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) " + WEBKIT + b" Version/17.5 Safari/605.1.15",
    IPHONE + b" Version/17.5 Mobile/15E148 Safari/604.1",
    IPHONE + b" CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1",
    IPHONE + b" Mobile/15E148 Instagram 334.0.0.29.93 (iPhone14,5; iOS 17_5; de_DE; de; scale=3.00; 1170x2532)",
    b"Mozilla/5.0 (Linux; Android 14; Pixel 8) " + WEBKIT + b" Chrome/126.0.0.0 Mobile Safari/537.36",
    b"Mozilla/5.0 (Linux; Android 10; CUBOT X30) " + WEBKIT + b" Chrome/126.0.0.0 Mobile Safari/537.36",
    b"Mozilla/5.0 (Linux; Android 13; SM-S918B) " + WEBKIT + b" SamsungBrowser/25.0 Chrome/121.0.0.0 Safari/537.36",
    b"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
]
BOTS = [
    b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    CHROME + b" (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    b"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    WEBKIT + b"; compatible; GPTBot/1.1; +https://openai.com/gptbot)",
    b"Mozilla/5.0 (X11; Linux x86_64) " + WEBKIT + b" HeadlessChrome/126.0.0.0 Safari/537.36",
    b"facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    b"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    b"WhatsApp/2.23.20.0",
    b"TelegramBot (like TwitterBot)",
    b"curl/8.5.0",
    b"Wget/1.21.4",
    b"python-requests/2.32.3",
    b"Go-http-client/2.0",
    b"Java/17.0.1",
    b"okhttp/4.12.0",
    b"PostmanRuntime/7.39.0",
    b"Mozilla/5.0",
    b"-",
    b"",
    b" \t ",
]


@pytest.mark.parametrize("user_agent", PEOPLE)
def test_browsers_are_people(user_agent: bytes) -> None:
    assert not is_bot(user_agent)


@pytest.mark.parametrize("user_agent", [*BOTS, None])
def test_bots_are_bots(user_agent: bytes | None) -> None:
    assert is_bot(user_agent)


def test_only_the_first_bytes_of_a_user_agent_count() -> None:
    assert not is_bot(CHROME + b" " * USER_AGENT_BYTES_MAX + b"Googlebot/2.1")
    assert is_bot(CHROME + b" Googlebot/2.1" + b"x" * 10_000)


@given(st.one_of(st.binary(), st.sampled_from(PEOPLE + BOTS).flatmap(lambda agent: st.binary().map(agent.__add__))))
def test_any_bytes_get_the_same_answer_as_from_the_list_itself(user_agent: bytes) -> None:
    """Taking is-bot's patterns apart for speed changes no answer; nothing is raised."""
    text = user_agent[:USER_AGENT_BYTES_MAX].decode("latin-1").strip()
    assert is_bot(user_agent) is (not text or Bots().is_bot(text))


# Addresses


@pytest.mark.parametrize(
    ("text", "truncated", "kept"),
    [
        ("203.0.113.77", "203.0.113.0", "203.0.113.77"),
        ("255.255.255.255", "255.255.255.0", "255.255.255.255"),
        ("127.0.0.1", "127.0.0.0", "127.0.0.1"),
        (" 203.0.113.77 ", "203.0.113.0", "203.0.113.77"),
        ("203.0.113.77:4711", "203.0.113.0", "203.0.113.77"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::", "2001:db8:1:2:3:4:5:6"),
        ("2001:0DB8:0001::1", "2001:db8:1::", "2001:db8:1::1"),
        ("[2001:db8:1:2::6]", "2001:db8:1::", "2001:db8:1:2::6"),
        ("[2001:db8:1:2::6]:443", "2001:db8:1::", "2001:db8:1:2::6"),
        ("::1", "::", "::1"),
        ("fe80::1%eth0", "fe80::", "fe80::1"),
        ("fe80::1%", "fe80::", "fe80::1"),
        ("::ffff:203.0.113.77", "203.0.113.0", "203.0.113.77"),
        ("::ffff:cb00:714d", "203.0.113.0", "203.0.113.77"),
        ("[::ffff:203.0.113.77]:80", "203.0.113.0", "203.0.113.77"),
        ("", "", ""),
        ("unknown", "", ""),
        ("203.0.113", "", ""),
        ("203.0.113.256", "", ""),
        ("010.0.0.1", "", ""),
        ("203.0.113.77/24", "", ""),
        ("1", "", ""),
        ("1:2", "", ""),
        (":::", "", ""),
        ("[", "", ""),
        ("١.١.١.١", "", ""),
        ("testclient", "", ""),
    ],
)
def test_addresses(text: str, truncated: str, kept: str) -> None:
    assert truncate_ip(text) == truncated
    assert normalise_ip(text) == kept


@pytest.mark.parametrize(("mode", "stored"), [("truncate", "203.0.113.0"), ("drop", ""), ("keep", "203.0.113.77")])
def test_what_is_stored_of_an_address(mode: IpMode, stored: str) -> None:
    assert ip_for_storage("203.0.113.77", mode) == stored


@given(st.ip_addresses())
def test_a_truncated_address_names_its_network_and_no_more(address: object) -> None:
    truncated = ip_address(truncate_ip(str(address)))
    kept = ip_address(normalise_ip(str(address)))
    prefix = 24 if truncated.version == 4 else 48
    assert kept in ip_network((truncated, prefix))
    assert truncate_ip(str(truncated)) == str(truncated)


@given(st.text())
def test_any_text_is_an_address_or_empty(text: str) -> None:
    assert bool(truncate_ip(text)) is bool(normalise_ip(text))


# Proxies

NONE = TrustedProxies()
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("peer", "header", "proxies", "expected"),
    [
        ("203.0.113.7", None, NONE, "203.0.113.7"),
        ("203.0.113.7", b"198.51.100.1", NONE, "203.0.113.7"),
        ("203.0.113.7", b"198.51.100.1", PROXIES, "203.0.113.7"),
        ("10.0.0.1", None, PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"198.51.100.1, 10.0.0.2", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"1.2.3.4, 198.51.100.1,10.0.0.2", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"10.9.9.9, 198.51.100.1, 10.0.0.2", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"10.0.0.3, 10.0.0.2", PROXIES, "10.0.0.3"),
        ("10.0.0.1", b"198.51.100.1, unknown, 10.0.0.2", PROXIES, "10.0.0.2"),
        ("10.0.0.1", b"unknown", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.1,", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.1:5555", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"[2001:db8::5]:443", PROXIES, "2001:db8::5"),
        ("10.0.0.1", b"2001:db8::5, 2001:db8:ffff::1", PROXIES, "2001:db8::5"),
        ("10.0.0.1", b"\xff\xfe", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"::ffff:198.51.100.1", PROXIES, "198.51.100.1"),
        ("::ffff:10.0.0.1", b"198.51.100.1", PROXIES, "198.51.100.1"),
        ("2001:db8:ffff::9", b"198.51.100.1", PROXIES, "198.51.100.1"),
        ("", b"198.51.100.1", PROXIES, ""),
        ("testclient", b"198.51.100.1", PROXIES, "testclient"),
        ("10.0.0.1", b"198.51.100.1:" + b"9" * ADDRESS_CHARACTERS_MAX, PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.1" + b", 10.0.0.2" * (FORWARDED_HOPS_MAX - 1), PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"1.2.3.4, 198.51.100.1" + b", 10.0.0.2" * FORWARDED_HOPS_MAX, PROXIES, "10.0.0.2"),
    ],
)
def test_who_sent_it(peer: str, header: bytes | None, proxies: TrustedProxies, expected: str) -> None:
    assert client_ip(peer, header, proxies) == expected


@given(st.binary())
def test_a_stranger_cannot_choose_his_address(header: bytes) -> None:
    """Neither directly nor by what he sends in front of what the proxy appends."""
    assert client_ip("203.0.113.7", header, PROXIES) == "203.0.113.7"
    assert client_ip("10.0.0.1", header + b", 203.0.113.7", PROXIES) == "203.0.113.7"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", True),
        ("203.0.113.8", False),
        ("::ffff:203.0.113.7", True),
        ("::ffff:203.0.113.8", False),
        ("198.51.100.255", True),
        ("2001:db8::1", True),
        ("2001:db8:1::1", False),
        ("203.0.113.7:4711", True),
        ("", False),
        ("testclient", False),
        ("203.0.113.7.", False),
    ],
)
def test_an_address_is_within_its_networks(address: str, expected: bool) -> None:
    assert is_within(address, ("198.51.100.0/24", "203.0.113.7/32", "2001:db8::/48")) is expected
    assert not is_within(address, ())


def test_a_network_that_is_none_stops_the_start() -> None:
    with pytest.raises(ValueError, match="10"):
        TrustedProxies(["10.0.0.0/99"])


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("10.0.0.1", b"https", "https"),
        ("10.0.0.1", b" HTTPS ", "https"),
        ("10.0.0.1", b"http", "http"),
        ("10.0.0.1", b"http, https", "https"),
        ("10.0.0.1", b"https, http", "http"),
        ("10.0.0.1", b"gopher", "plain"),
        ("10.0.0.1", b"https,", "plain"),
        ("10.0.0.1", b"\xff", "plain"),
        ("10.0.0.1", b"", "plain"),
        ("10.0.0.1", None, "plain"),
        ("203.0.113.7", b"https", "plain"),
        ("", b"https", "plain"),
    ],
)
def test_by_which_scheme_it_was_asked(peer: str, header: bytes | None, expected: str) -> None:
    """`plain` stands for the connection's own scheme."""
    assert forwarded_proto("plain", peer, header, PROXIES) == expected
