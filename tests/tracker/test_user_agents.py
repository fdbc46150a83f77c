"""Device, system and browser of user agents that are about, and of any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.user_agents import Agent, parse

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT}"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {APPLE}"
FIRE = f"Mozilla/5.0 (Linux; Android 9; KFMAWI) {WEBKIT}"


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (
            f"{WINDOWS} Chrome/126.0.0.0 Safari/537.36",
            Agent("desktop", "Windows", "Chrome"),
        ),
        (
            f"{WINDOWS} Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
            Agent("desktop", "Windows", "Edge"),
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/17.5 Safari/605.1.15",
            Agent("desktop", "Mac OS X", "Safari"),
        ),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
            Agent("desktop", "Ubuntu", "Firefox"),
        ),
        (
            f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/126.0.0.0 Safari/537.36",
            Agent("desktop", "Linux", "Chrome"),
        ),
        (
            "Mozilla/5.0 (X11; FreeBSD amd64; rv:127.0) Gecko/20100101 Firefox/127.0",
            Agent("desktop", "FreeBSD", "Firefox"),
        ),
        (
            f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/126.0.0.0 Safari/537.36",
            Agent("desktop", "Chrome OS", "Chrome"),
        ),
        (
            f"{IPHONE} Version/17.5 Mobile/15E148 Safari/604.1",
            Agent("mobile", "iOS", "Mobile Safari"),
        ),
        (
            f"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) {APPLE} Version/17.5 Mobile/15E148 Safari/604.1",
            Agent("tablet", "iOS", "Mobile Safari"),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {WEBKIT} Chrome/126.0.0.0 Mobile Safari/537.36",
            Agent("mobile", "Android", "Chrome Mobile"),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 13; SM-X700) {WEBKIT} Chrome/126.0.0.0 Safari/537.36",
            Agent("tablet", "Android", "Chrome"),
        ),
        (
            f"{FIRE} Silk/126.1.1 like Chrome/126.0.0.0 Safari/537.36",
            Agent("tablet", "Android", "Amazon Silk"),
        ),
        (
            f"Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2) {WEBKIT} Chrome/126.0.0.0 Safari/537.36",
            Agent("other", "Android", "Chrome"),
        ),
        (
            f"Mozilla/5.0 (PlayStation 5/SmartTV) {APPLE} Version/17.0 Safari/605.1.15",
            Agent("other", "Other", "Safari"),
        ),
        (
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Agent("bot", "Other", "Googlebot"),
        ),
        ("curl/8.5.0", Agent("bot", "Other", "curl")),
        ("", Agent("bot", "Other", "Other")),
        ("Mozilla/5.0 (Amiga; x, y; z) Something, else", Agent("other", "Other", "Other")),
    ],
)
def test_who_is_about(user_agent: str, expected: Agent) -> None:
    assert parse(user_agent) == expected


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=100))
def test_any_text_has_an_answer(user_agent: str) -> None:
    agent = parse(user_agent)
    assert agent.device in ("desktop", "mobile", "tablet", "bot", "other")
    assert parse(user_agent) is agent


def test_what_is_too_long_is_cut() -> None:
    """Two user agents that differ behind the limit are one, for the memo too."""
    assert parse("x " * 600) is parse("x " * 600 + "Firefox/127.0")
