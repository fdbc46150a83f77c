"""A clock for a whole system that a scenario can step: each of its processes reads clock/sitecustomize.py."""

import mmap
import struct
from pathlib import Path


class Clock:
    """The clock of a system in `folder`; starts as the machine's."""

    def __init__(self, folder: Path) -> None:
        path = folder / "clock"
        path.write_bytes(bytes(8))
        self.environ = {"CHAOS_CLOCK": str(path), "PYTHONPATH": str(Path(__file__).parent / "clock")}
        with path.open("r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)

    def step(self, ahead_seconds: int) -> None:
        """Put the clock so far ahead of the machine's (negative: behind), in one step."""
        self._ahead[:] = struct.pack("<q", ahead_seconds * 1000)
