"""Stories of visitors over days and weeks, on the real edge and a real log server, with a moving clock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.embedded import binary
from tests.journey import Story
from tests.log_server import LogServer
from tests.system import ROOT
from tracker.reports import Outcome

DEMO = (ROOT / "demo" / "entities.toml").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogServer]:
    running = LogServer(str(binary()), tmp_path_factory.mktemp("log")).start()
    yield running
    running.stop()


@pytest.fixture
def story(server: LogServer, tmp_path: Path) -> Iterator[Story]:
    with Story(str(server.socket), tmp_path) as told:
        told.applies(DEMO)
        yield told


def test_the_last_cookie_wins_weeks_later(story: Story) -> None:
    reader = story.visitor()
    reader.clicks("/c/boots")
    story.wait("20d")
    reader.clicks("/c/sneakers")
    story.wait("9d")
    assert reader.buys("o1") == Outcome.ACCEPTED
    assert story.told("o1") == ("bob", [("alice", "NOT_LAST"), ("bob", "WON")])


def test_a_click_one_millisecond_younger_than_the_window_earns(story: Story) -> None:
    reader = story.visitor()
    reader.clicks("/c/boots")
    story.wait("30d")
    story.now -= 1
    reader.buys("o1")
    assert story.told("o1") == ("alice", [("alice", "WON")])


def test_a_sale_after_the_window_earns_nothing(story: Story) -> None:
    reader = story.visitor()
    reader.clicks("/c/boots")
    story.wait("30d")
    reader.buys("o1")
    assert story.told("o1") == (None, [("alice", "OUT_OF_WINDOW")])


def test_a_reader_without_a_cookie_is_found_by_the_click_id_of_his_landing_page(story: Story) -> None:
    reader = story.visitor()
    reader.clicks("/c/boots")
    reader.cookie = ""
    story.wait("3d")
    assert reader.buys("pixel") == Outcome.ACCEPTED
    assert story.told("pixel") == (None, [])
    assert reader.buys("server", "postback") == Outcome.ACCEPTED
    assert story.told("server") == ("alice", [("alice", "WON")])


def test_the_server_confirms_what_the_pixel_claimed(story: Story) -> None:
    """The everyday case: a pixel without a cookie, then the shop's server with the click id."""
    reader = story.visitor()
    reader.clicks("/c/boots")
    reader.cookie = ""
    assert reader.buys("o1", "pixel", amount="10.0000") == Outcome.ACCEPTED
    story.now += 300
    assert reader.buys("o1", "postback", amount="12.0000") == Outcome.MERGED
    assert reader.buys("o1", "postback", amount="12.0000") == Outcome.DUPLICATE
    assert reader.buys("o1", "postback", amount="13.0000") == Outcome.CONFLICT


def test_a_double_click_is_one_click_and_a_return_to_the_first_is_a_click(story: Story) -> None:
    """A, A within ten seconds: the second is a duplicate. A, B, A: ends with A."""
    reader = story.visitor()
    first = reader.clicks("/c/boots")
    story.wait("2s")
    reader.clicks("/c/boots")
    reader.buys("twice")
    assert [c.touch.click_id for c in story.credit("twice").candidates] == [first]
    reader.clicks("/c/sneakers")
    story.wait("1s")  # of two clicks in one millisecond the greater click id wins
    last = reader.clicks("/c/boots")
    reader.buys("there and back")
    assert story.credit("there and back").click_id == last


def test_pausing_an_affiliate_later_does_not_take_what_his_click_earned(story: Story) -> None:
    reader = story.visitor()
    reader.clicks("/c/boots")
    story.wait("1d")
    story.applies('[[affiliate]]\nid = "alice"\nstatus = "paused"\n')
    reader.buys("o1")
    assert story.told("o1")[0] == "alice"
    story.applies('[[affiliate]]\nid = "alice"\nstatus = "banned"\n')
    story.wait("1s")
    reader.buys("o2")
    assert story.told("o2") == (None, [("alice", "AFFILIATE_BANNED")])


def test_a_new_window_counts_for_new_clicks_only(story: Story) -> None:
    reader = story.visitor()
    reader.clicks("/c/boots")
    story.wait("1d")
    story.applies('[[program]]\nid = "shoes"\nmerchant = "acme"\n[program.attribution]\nwindow = "2d"\n')
    reader.clicks("/c/sneakers")
    story.wait("3d")
    reader.buys("o1")
    assert story.told("o1") == ("alice", [("alice", "WON"), ("bob", "OUT_OF_WINDOW")])


def test_a_coupon_is_credited_when_no_click_is_eligible(story: Story) -> None:
    reader = story.visitor()
    assert reader.buys("o1", "api", coupon=["alice10"]) == Outcome.ACCEPTED
    credit = story.credit("o1")
    assert (credit.affiliate, credit.method) == ("alice", "coupon")
