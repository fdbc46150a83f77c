"""A folder for one run, gone afterwards, also where the run is stopped. Called by the commands of this package."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(name: str, inside: Path | None = None) -> Iterator[Path]:
    """From here on SIGINT and SIGTERM end the command with 128 + their number, and what it started with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda given, _: sys.exit(128 + given))
    if inside is not None:
        inside.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=inside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
