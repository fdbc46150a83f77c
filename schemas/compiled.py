"""Which modules may run compiled: what a tracker does for a click and for a postback, made machine code by mypyc.

`make compile` (deploy/compile.py) writes them into a folder beside the packages. They are taken as long as they are of
exactly the sources that are there; otherwise, and where there are none, Python interprets these same sources.
LASTCOOKIE_COMPILED=no leaves them out, =must refuses to run without. Called by the packages' `__init__`.

What decides about money stays interpreted, as it is read, and so does what has coroutines or generators: why, and what
else to mind in these modules, is in docs/decisions/0014-compiled-modules.md.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path

MODULES = (
    "schemas.keys",
    "tracker.click",
    "tracker.click_id",
    "tracker.cookie",
    "tracker.destination",
    "tracker.filters",
    "tracker.links",
    "tracker.parameters",
    "tracker.rates",
    "tracker.reader",
    "tracker.redirect",
    "tracker.report_fields",
    "tracker.report_reader",
    "tracker.report_rows",
    "tracker.report_steps",
    "tracker.reports",
    "tracker.resp",
    "tracker.shard",
    "tracker.short",
)
ROOT = Path(__file__).parent.parent
"""Where the packages lie."""

FOLDER = "lastcookie_compiled"
_STAMP = "sources"


def sources(root: Path = ROOT) -> list[Path]:
    """The files that are compiled."""
    return [root / f"{name.replace('.', '/')}.py" for name in MODULES]


def fingerprint(root: Path = ROOT) -> str:
    """Another one for every change of a source or of the Python that runs them."""
    texts = blake2b(sys.version.encode(), digest_size=16)
    for path in sources(root):
        texts.update(b"%d " % path.stat().st_size + path.read_bytes())
    return texts.hexdigest()


def sign(folder: Path, root: Path = ROOT) -> None:
    """Note in the folder of what it was made."""
    (folder / _STAMP).write_text(fingerprint(root))


def is_current(folder: Path, root: Path = ROOT) -> bool:
    """Whether the folder was made of the present sources by this Python."""
    stamp = folder / _STAMP
    return stamp.exists() and stamp.read_text() == fingerprint(root)


@cache
def compiled() -> Path | None:
    """The folder of the compiled modules if they are to be taken. Raises ImportError where they must be and cannot."""
    wish = os.environ.get("LASTCOOKIE_COMPILED", "")
    folder = ROOT / FOLDER
    if wish != "no" and is_current(folder):
        sys.path.append(str(folder))  # the modules share a library that lies there
        return folder
    if wish == "must":
        raise ImportError(f"there is nothing compiled of the present sources in {folder}: make compile")
    return None


def prefer(package: str, path: Iterable[str]) -> list[str]:
    """Where to look for the package's modules."""
    folder = compiled()
    return [*path] if folder is None else [str(folder / package), *path]
