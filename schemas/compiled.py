"""Which modules may run compiled: what a tracker does for a click and for a postback, and the loader for each row,
made machine code by mypyc.

`make compile` (deploy/compile.py) writes them into a folder beside the packages. They are taken as long as they are of
exactly the sources that are there; otherwise, and where there are none, Python interprets these same sources.
LASTCOOKIE_COMPILED=no leaves them out, =must refuses to run without. Called by the packages' `__init__`.

What decides who earns stays interpreted, as it is read, and so does what has coroutines or generators: why, and what
else to mind in these modules, is in docs/decisions/0014-compiled-modules.md.
"""

import os
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from sysconfig import get_config_var

MODULES = (
    "schemas.keys",
    "tracker.authorization",
    "tracker.click",
    "tracker.click_id",
    "tracker.cookie",
    "tracker.deep_links",
    "tracker.destination",
    "tracker.filters",
    "tracker.links",
    "tracker.parameters",
    "tracker.postbacks",
    "tracker.rates",
    "tracker.reader",
    "tracker.redirect",
    "tracker.report_batch",
    "tracker.report_fields",
    "tracker.report_reader",
    "tracker.report_rows",
    "tracker.report_steps",
    "tracker.reports",
    "tracker.resp",
    "tracker.rows",
    "tracker.shard",
    "tracker.short",
    "tracker.web_address",
)
ROOT = Path(__file__).parent.parent
"""Where the packages lie."""

FOLDER = "lastcookie_compiled"
LIBRARY = "lastcookie__mypyc"
"""What the modules share; named by mypyc after the group's name."""

_STAMP = "sources"


def sources(root: Path = ROOT) -> list[Path]:
    """The files that are compiled."""
    return _files(root, ".py")


def made_files(folder: Path) -> list[Path]:
    """What they become in the folder, for this Python."""
    return _files(folder, EXTENSION_SUFFIXES[0])


def _files(root: Path, suffix: str) -> list[Path]:
    return [root / f"{name.replace('.', '/')}{suffix}" for name in MODULES]


def fingerprint(root: Path = ROOT) -> str:
    """Another one for every change of the Python that runs them, or of a source: of those that are compiled, and of the
    others in their packages, whose types and constants are compiled in."""
    texts = blake2b(f"{sys.version} {get_config_var('SOABI')}".encode(), digest_size=16)
    for package in ("schemas", "tracker"):
        for path in sorted((root / package).glob("*.py")):
            text = path.read_bytes()
            texts.update(b"%b %d " % (path.name.encode(), len(text)) + text)
    return texts.hexdigest()


def sign(folder: Path, root: Path = ROOT) -> None:
    """Note in the folder of what it was made."""
    (folder / _STAMP).write_text(fingerprint(root))


def is_current(folder: Path, root: Path = ROOT) -> bool:
    """Whether the folder is whole, and was made of the present sources for this Python."""
    try:
        return all(path.exists() for path in made_files(folder)) and (folder / _STAMP).read_text() == fingerprint(root)
    except (OSError, ValueError):  # not ours to read: that must stop nobody
        return False


@cache
def compiled() -> Path | None:
    """The folder of the compiled modules if they are to be taken. Raises ImportError where they must be and cannot."""
    wish = os.environ.get("LASTCOOKIE_COMPILED", "")
    folder = ROOT / FOLDER
    if wish != "no" and is_current(folder):
        sys.path.append(str(folder))
        try:
            import_module(LIBRARY)
        except ImportError:  # a file cut short, a file system without execution
            sys.path.remove(str(folder))
        else:
            return folder
    if wish == "must":
        raise ImportError(f"there is nothing compiled of the present sources in {folder}: make compile")
    return None


def prefer(package: str, path: Iterable[str]) -> list[str]:
    """Where to look for the package's modules."""
    folder = compiled()
    return [*path] if folder is None else [str(folder / package), *path]
