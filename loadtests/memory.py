"""Redis memory: what one more live visitor costs, and one more link. Counted over many, by the server's own numbers.

Not counted are buffers of connections and of the append-only file, and the streams: they are as long as the loader is
behind, not as many visitors as there are.
"""

import time
from typing import Any

from loadtests.figures import percentile
from schemas import keys

_SETTLED_BYTES = 65_536
_BUFFERS = ("mem_clients_normal", "mem_aof_buffer")


def wait_until_loaded(redis: Any, seconds: float = 120) -> float:
    """Until the stream of clicks is empty: everything is in the tables; how long it took. Raises TimeoutError."""
    started = time.monotonic()
    while redis.xlen(keys.clicks(0)):
        if time.monotonic() > started + seconds:
            raise TimeoutError(f"the loader is still behind after {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - started


def used_bytes(redis: Any, seconds: float = 20) -> int:
    """Memory of keys and values, once it has settled: a server that has just started, or resizes its tables, uses more
    for a while. Settled are five takes, half a second from first to last, which differ by no more than 64 KiB; after so
    many seconds the median of the last five is taken as it is."""
    taken: list[int] = []
    deadline = time.monotonic() + seconds
    while len(taken) < 5 or (max(taken) - min(taken) > _SETTLED_BYTES and time.monotonic() < deadline):
        time.sleep(0.125)
        info = redis.info("memory")
        taken = [*taken[-4:], info["used_memory"] - sum(info[name] for name in _BUFFERS) - stream_bytes(redis)]
    return int(percentile(taken, 50))


def stream_bytes(redis: Any) -> int:
    """Memory of the stream of entities, which keeps the last hour."""
    return int(redis.memory_usage(keys.ENTITIES, samples=0) or 0)


def links_toml(count: int) -> str:
    """So many links of the demo's affiliates, each with a destination of its own."""
    link = (
        '[[link]]\ncode = "bench-{n}"\nprogram = "shoes"\naffiliate = "{who}"\nurl = "https://shop.example/item/{n}"\n'
    )
    return "\n".join(link.format(n=n, who="bob" if n % 2 else "alice") for n in range(count))
