"""The loader held between two batches, while its tables and its log must not move against each other.

Called by the engine, whose loader passes `point` between batches, and by a backup, which holds it there.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class NotHeld(Exception):
    """The loader did not come to rest in time."""


class Pause:
    """One loader may be held, by one at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_there = False

    def point(self) -> None:
        """Wait here while the loader is to be held."""
        with self._changed:
            self._is_there = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_wanted)
            self._is_there = False

    @contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """The loader rests within. Raises NotHeld where it has not come to rest after so long."""
        with self._changed:
            self._is_wanted = True
            try:
                if not self._changed.wait_for(lambda: self._is_there, seconds):
                    raise NotHeld
            except BaseException:
                self._is_wanted = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._is_wanted = False
                self._changed.notify_all()
