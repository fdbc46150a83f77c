"""Reading ahead: a thread goes on taking what a source sends while what came before is worked on.

A replay is gathered in one process and decided in another; with room between them both work at once, and take as
long as the slower of them: 100 µs a sale one after the other, 60 together (`make bench-replay`). Called by the command
line's end of the private port.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator

_BYTES_MAX = 64 << 20
"""Of a slice of decisions about as much as there is."""


def lines_ahead(read: Callable[[], bytes], bytes_max: int = _BYTES_MAX) -> Iterator[bytes]:
    """Lines, without their ends, of what `read` gives until it gives nothing; what it raises is raised here.

    At most `bytes_max` and what one `read` gives are held. Whoever stops early must also make `read` end.
    """
    rest = b""
    for data in _Ahead(read, bytes_max):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        yield rest


class _Ahead:
    """What was read and not yet taken. The thread ends with its source, or at the first read after the end here."""

    def __init__(self, read: Callable[[], bytes], bytes_max: int) -> None:
        self._read = read
        self._bytes_max = bytes_max
        self._blocks: deque[bytes] = deque()
        self._held = 0
        self._error: Exception | None = None
        self._is_ended = False
        self._is_left = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[bytes]:
        threading.Thread(target=self._run, daemon=True).start()
        try:
            while (block := self._next()) is not None:
                yield block
        finally:
            with self._changed:
                self._is_left = True
                self._changed.notify()
        if self._error is not None:
            raise self._error

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._blocks and not self._is_ended:
                self._changed.wait()
            if not self._blocks:
                return None
            block = self._blocks.popleft()
            self._held -= len(block)
            self._changed.notify()
            return block

    def _run(self) -> None:
        try:
            while data := self._read():
                with self._changed:
                    self._blocks.append(data)
                    self._held += len(data)
                    self._changed.notify()
                    while self._held > self._bytes_max and not self._is_left:
                        self._changed.wait()
                    if self._is_left:
                        return
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._is_ended = True
                self._changed.notify()
