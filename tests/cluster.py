"""A cluster for a test: three masters of the embedded Valkey on loopback ports, each with two of six shards.

Its servers can be killed and started again on their data, and slots moved from one to another while clients write.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.cluster import RedisCluster
from redis.crc import key_slot

from tests.log_server import LogServer
from tests.system import free_ports

SHARDS = 6
_SLOTS = ((0, 5999), (6000, 11999), (12000, 16383))
"""Of each master: shards 2 and 3; 1 and 5; 0 and 4, with the entities."""
_KEYS_AT_ONCE = 5


class Cluster:
    """Masters, and replicas made later. `nodes` answer on unix sockets as well, for what is asked of one alone."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self.nodes: list[LogServer] = []
        self._client: Any = None

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{self.port(node)}" for node in self.nodes[: len(_SLOTS)])

    @property
    def redis(self) -> Any:
        """A client of the whole cluster."""
        if self._client is None:
            self._client = RedisCluster(host="127.0.0.1", port=self.port(self.nodes[0]))
        return self._client

    def start(self) -> "Cluster":
        """Start the masters, and wait until each knows that all is well."""
        for epoch, (first, last) in enumerate(_SLOTS, 1):
            node = self._add()
            node.redis.execute_command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
            node.redis.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            self._introduce(node)
        until(lambda: all(self._knows(node) == (len(_SLOTS), "ok") for node in self.nodes))
        return self

    def add_replica(self, of: LogServer) -> LogServer:
        """A further server with a copy of a master, complete when this returns."""
        node = self._add()
        self._introduce(node)
        until(lambda: self._knows(node) == (len(self.nodes), "ok"))
        node.redis.execute_command("CLUSTER", "REPLICATE", self.id_of(of))
        until(lambda: node.redis.info("replication").get("master_link_status") == "up")
        return node

    def move_slot(self, slot: int, giver: LogServer, taker: LogServer, between: Callable[[], Any]) -> int:
        """Move a slot as `redis-cli --cluster reshard` does, some keys at a time; the number of keys. `between` is
        called after each time."""
        to_giver, to_taker = giver.redis.execute_command, taker.redis.execute_command
        to_taker("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(giver))
        to_giver("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(taker))
        count = 0
        while names := to_giver("CLUSTER", "GETKEYSINSLOT", slot, _KEYS_AT_ONCE):
            to_giver("MIGRATE", "127.0.0.1", self.port(taker), "", 0, 5000, "KEYS", *names)
            count += len(names)
            between()
        for node in (taker, giver, *(one for one in self.nodes if one not in (taker, giver))):
            node.redis.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(taker))
        return count

    def hand_over_slot(self, slot: int, giver: LogServer, taker: LogServer) -> None:
        """Move a slot as Valkey 9 does by itself: as a whole, and writes wait for a moment at the end."""
        giver.redis.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(taker))
        until(lambda: self._owner(slot) == self.port(taker))

    def node_of(self, key: str) -> LogServer:
        """The master that holds a key."""
        port = self._owner(key_slot(key.encode()))
        return next(node for node in self.nodes if self.port(node) == port)

    def _owner(self, slot: int) -> int:
        """The port of a slot's master, as the first server knows it."""
        ranges = self.nodes[0].redis.execute_command("CLUSTER", "SLOTS")
        return int(next(part[2][1] for part in ranges if part[0] <= slot <= part[1]))

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
        for node in self.nodes:
            node.stop()

    @staticmethod
    def port(node: LogServer) -> int:
        return int(node.options["port"])

    @staticmethod
    def id_of(node: LogServer) -> str:
        """The name by which servers of a cluster know each other."""
        return str(node.redis.execute_command("CLUSTER", "MYID").decode())

    def _add(self) -> LogServer:
        folder = self._folder / f"node{len(self.nodes)}"
        folder.mkdir(parents=True)
        port, bus = free_ports(2)
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "cluster-enabled": "yes",
            "cluster-port": str(bus),
            "cluster-node-timeout": "5000",  # a loaded machine must not make a server seem dead
            "cluster-require-full-coverage": "no",
            "cluster-replica-no-failover": "yes",  # tests say when
            "repl-diskless-sync-delay": "0",
        }
        self.nodes.append(LogServer(self._binary, folder, options).start())
        return self.nodes[-1]

    def _introduce(self, node: LogServer) -> None:
        first = self.nodes[0]
        node.redis.execute_command("CLUSTER", "MEET", "127.0.0.1", self.port(first), int(first.options["cluster-port"]))

    @staticmethod
    def _knows(node: LogServer) -> tuple[int, str]:
        said = dict(line.split(":") for line in node.redis.execute_command("CLUSTER", "INFO").decode().split())
        return int(said["cluster_known_nodes"]), said["cluster_state"]


def until(is_so: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for it; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.05)
