"""A loopback proxy before the log server that misbehaves as networks do: it delays, swallows, resets, half-closes,
trickles, and loses replies to what was done.

Threads of its own; `with Proxy(port) as proxy: proxy.mode = "blackhole"`. A mode holds for open connections too.
"""

import socket
import struct
import threading
import time
from typing import Literal

Mode = Literal["pass", "delay", "blackhole", "reset", "half_close", "trickle", "lose_replies"]
DELAY_SECONDS = 0.4
"""More than the 0.25 s that a call may take."""


class Proxy:
    """Listens on `port` and passes on to `to_port`, both on 127.0.0.1. `hits` counts by mode what it did in it."""

    def __init__(self, to_port: int) -> None:
        self._to = ("127.0.0.1", to_port)
        self.mode: Mode = "pass"
        self.hits: dict[str, int] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """End every connection."""
        for pair in list(self._pairs):
            for one in pair:
                _close(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to, timeout=1)
            except ConnectionError:  # the server is away
                _close(client)
                continue
            except OSError:
                return
            server.settimeout(None)
            pair = (client, server)
            for one in pair:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.add(pair)
            for source, target, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, target, is_reply, pair), daemon=True).start()

    def _pump(
        self, source: socket.socket, target: socket.socket, is_reply: bool, pair: tuple[socket.socket, ...]
    ) -> None:
        try:
            while data := source.recv(65536):
                self._pass_on(data, target, is_reply)
        except OSError:
            pass
        for one in pair:
            _close(one)
        self._pairs.discard(pair)  # type: ignore[arg-type]

    def _pass_on(self, data: bytes, target: socket.socket, is_reply: bool) -> None:
        mode = self.mode
        self.hits[mode] = self.hits.get(mode, 0) + 1
        if mode == "delay":
            time.sleep(DELAY_SECONDS)
        elif mode == "blackhole" or (mode == "lose_replies" and is_reply):
            return  # nobody hears of it, and the connection stays open
        elif mode == "reset":
            raise ConnectionResetError
        elif mode == "half_close" and is_reply:
            target.shutdown(socket.SHUT_WR)
            return
        elif mode == "trickle":
            for start in range(0, min(len(data), 20)):
                target.sendall(data[start : start + 1])
                time.sleep(0.02)
            target.sendall(data[20:])
            return
        target.sendall(data)


def _close(one: socket.socket) -> None:
    """At once, with a reset for whoever is at the other end."""
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
