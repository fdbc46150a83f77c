"""The documents as tests read them: fenced blocks, commands with what they print, tables, headings, links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\S*)[ ]*(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the words behind that, and its text."""

    language: str
    words: str
    text: str


class Command(NamedTuple):
    """A command of a console block, what is printed, and whether it is to fail."""

    text: str
    printed: str
    fails: bool


def text_of(name: str) -> str:
    """The text of a guide."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def blocks(path: Path, language: str | None = None) -> Iterator[Block]:
    """The fenced blocks of a document, those of one language or all."""
    for match in _FENCE.finditer(path.read_text()):
        if language is None or match[1] == language:
            yield Block(*match.groups())


def commands(path: Path) -> Iterator[Command]:
    """The commands of a document's console blocks, in order: `$ ` begins one, what follows is what it prints."""
    for block in blocks(path, "console"):
        for piece in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, printed = piece.partition("\n")
            yield Command(command, printed, block.words == "fails")


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading (a whole line), without its head."""
    behind = re.split(rf"^{re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)
    assert len(behind) == 2, heading
    table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n?)+)", behind[1], re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def named(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def anchors(path: Path) -> set[str]:
    """The headings of a document as links name them."""
    without_code = _FENCE.sub("", path.read_text())
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[str]:
    """Where a document's links lead."""
    return iter(re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", path.read_text())))
