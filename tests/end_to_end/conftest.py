"""A second system for what the demo has not: two workers behind a proxy, short times, programs of every kind."""

from collections.abc import Iterator

import pytest

from tests.system import System

PROGRAMS = {
    "plain": 'landing_url = "https://shop.test/"\nallowed_hosts = ["shop.test", "*.deep.test"]',
    "query": 'landing_url = "https://shop.test/p?a=1#top"',
    "param": 'landing_url = "https://shop.test/?x=1&aff=old&y=2&aff=older#f"\nclick_param = "aff"',
    "macros": """landing_url = "https://shop.test/{sub1}/x?a={affiliate}&s={sub2}&r={ref}&p={program}&l={link}#{sub3}"
allowed_hosts = ["shop.test"]""",
    "own-place": 'landing_url = "https://shop.test/?tid={click_id}&k=v"',
    "fallback": 'landing_url = "https://shop.test/"\nfallback_url = "https://shop.test/sorry?from={affiliate}"',
    "resting": 'landing_url = "https://shop.test/"\nstatus = "paused"',
    "quick": 'landing_url = "https://shop.test/"\n[program.attribution]\nduplicate_within = "1s"',
    "viewed": 'landing_url = "https://shop.test/"\n[program.attribution]\nview_window = "1d"',
    "long": 'landing_url = "https://shop.test/"\n[program.attribution]\nwindow = "300d"',
}
AFFILIATES = {"ann": "active", "ben": "active", "resting": "paused", "gone": "banned"}
LINKS = {
    **{name: f'program = "{name}"\naffiliate = "ann"' for name in PROGRAMS},
    "ben": 'program = "plain"\naffiliate = "ben"',
    "viewed-ben": 'program = "viewed"\naffiliate = "ben"\nkind = "soft"',
    "soft": 'program = "plain"\naffiliate = "ann"\nkind = "soft"',
    "own-url": 'program = "macros"\naffiliate = "ann"\nurl = "https://shop.test/b?s={sub1}"',
    "paused": 'program = "plain"\naffiliate = "ann"\nstatus = "paused"',
    "expired": 'program = "plain"\naffiliate = "ann"\nexpires = "2020-01-01T00:00:00Z"',
    "of-resting": 'program = "plain"\naffiliate = "resting"',
    "of-gone": 'program = "plain"\naffiliate = "gone"',
    "lost": 'program = "fallback"\naffiliate = "ben"\nstatus = "paused"',
}


def entities() -> str:
    tables = ['[[merchant]]\nid = "acme"', '[[merchant]]\nid = "other"']
    tables += [
        f'[[program]]\nid = "{id}"\nmerchant = "acme"\ncurrency = "EUR"\n{keys}' for id, keys in PROGRAMS.items()
    ]
    tables += ['[[program]]\nid = "foreign"\nmerchant = "other"\ncurrency = "EUR"\nlanding_url = "https://other.test/"']
    tables += [f'[[affiliate]]\nid = "{id}"\nstatus = "{status}"' for id, status in AFFILIATES.items()]
    tables += [f'[[link]]\ncode = "{code}"\n{keys}' for code, keys in LINKS.items()]
    tables += ['[[coupon]]\ncode = "ANN10"\nprogram = "plain"\naffiliate = "ann"']
    return "\n\n".join(tables) + "\n"


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two workers that believe a proxy on this machine, hurry, and take 5 clicks a second from an address."""
    settings = {
        "server": {
            "workers": 2,
            "trusted_proxies": ["127.0.0.1/32"],
            "header_timeout": "1s",
            "body_timeout": "2s",
            "keep_alive": "4s",
        },
        "redis": {"timeout_ms": 2000},  # a disk may hang for a moment: what happens then is tested elsewhere
        "limits": {"rate_clicks_per_ip": 5},
        "demo": {"shop_listen": ""},
    }
    running = System(tmp_path_factory.mktemp("edge"), settings, entities=entities()).start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def edge_key(edge: System) -> str:
    return edge.key("api")


@pytest.fixture(scope="session")
def edge_token(edge: System) -> str:
    return edge.key("postback")
