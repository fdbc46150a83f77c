"""Device, operating system and browser of a user agent, for the columns of `clicks`.

The idea: `ua-parser` names browser and system; the kind of device, which it does not know, follows from its
answer and a few words that browsers put there for this purpose. Families only, no versions: few values.

Leaves out: whether a click is flagged as a bot's; that is decided when it is made, by `filters`, whose list
is used here too, so that the two agree.

Called by the loader, off the hot path. What is not remembered costs 2 ms (7 for a hostile one) in ua-parser's
Python; where its extra `regex` is installed ua-parser uses that, and it costs 0.1 ms.
"""

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import ua_parser

from tracker.filters import USER_AGENT_BYTES_MAX, is_bot

Device = Literal["desktop", "mobile", "tablet", "bot", "other"]


class Agent(NamedTuple):
    """`os` and `browser` are families as ua-parser names them, `Other` when it knows none."""

    device: Device
    os: str
    browser: str


_TELEVISION: Final = re.compile(r"TV|\bCrKey\b|BRAVIA|\bAFT[A-Z]|PlayStation|Xbox|Nintendo")
_TABLET: Final = re.compile(r"iPad|Tablet|PlayBook|Kindle|Silk/|\bKF[A-Z]{2,}\b")
_MOBILE: Final = re.compile(r"Mobi|iPhone|iPod|Opera Mini|BlackBerry|J2ME|MIDP")
_DESKTOP_SYSTEM: Final = re.compile(r"Windows|Mac OS X|Chrome OS|Linux|Ubuntu|Debian|Fedora|Mint|SUSE|Red Hat|BSD$")


def parse(user_agent: str) -> Agent:
    """What `user_agent` says of itself; never raises."""
    return _parse(user_agent[:USER_AGENT_BYTES_MAX])


@lru_cache(maxsize=16384)
def _parse(user_agent: str) -> Agent:
    found = ua_parser.parse(user_agent).with_defaults()
    is_spider = found.device.family == "Spider" or is_bot(user_agent.encode("latin-1", "replace"))
    device = "bot" if is_spider else _device(user_agent, found.os.family)
    return Agent(device, found.os.family, found.user_agent.family)


def _device(user_agent: str, os: str) -> Device:
    """The first that fits; Android without the word Mobile is a tablet, as Google asks of browsers."""
    if _TELEVISION.search(user_agent):
        return "other"
    if _TABLET.search(user_agent):
        return "tablet"
    if _MOBILE.search(user_agent):
        return "mobile"
    if os == "Android":
        return "tablet"
    if _DESKTOP_SYSTEM.search(os):
        return "desktop"
    return "other"
