"""A whole system on a Redis Cluster of three masters: as on one server, through deaths, a moving slot and a failover.

One cluster and one system for all tests of this file, in their order.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uvloop
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import ConnectionError as LostConnection

import console.log_client
import tracker.log_client
from console.bootstrap import UnsafeLogServer, check_durability
from console.embedded import binary
from schemas import keys
from schemas.settings import Settings
from tests.chaos.proof import spooled_bytes, wait_until_at_rest
from tests.cluster import SHARDS, Cluster, until
from tests.system import System

AT_REST_SECONDS = 90
LINKS = ("/c/boots", "/c/sneakers", "/c/laces")
GADGETS = """
[[affiliate]]
id = "carol"
name = "Carol's mail"

[[link]]
code = "laces"
program = "shoes"
affiliate = "carol"
url = "http://shop.localhost:8082/laces"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(str(binary()), tmp_path_factory.mktemp("cluster"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    redis = {"url": cluster.url, "shards": SHARDS, "timeout_ms": 2000}  # a disk may hang for a moment without a refusal
    settings: dict[str, dict[str, Any]] = {"redis": redis, "server": {"workers": 1}}
    running = System(tmp_path_factory.mktemp("system"), settings).start()
    yield running
    if running.process is not None:
        running.stop()


@pytest.fixture(scope="module")
def key(whole: System) -> str:
    return whole.key()


def shard_of_order(order: str) -> int:
    return keys.shard_of_order("shoes", order, "sale", SHARDS)


def shard_of_visitor(visitor: str) -> int:
    return keys.shard_of_visitor(visitor, SHARDS)


def sell(system: System, key: str, order: str, click_id: str) -> int:
    """Report a sale by the API; the status. What the answer says of it must be true."""
    sale = {"program": "shoes", "order_id": order, "click_id": click_id, "amount": "10.00", "currency": "EUR"}
    answer = system.post_json("/v1/conversions", sale, key)
    assert answer.status in (202, 503), answer
    return answer.status


def rest(system: System, cluster: Cluster) -> None:
    wait_until_at_rest(system, cluster.redis, AT_REST_SECONDS)
    assert system.check() == []


@dataclass
class Shopping:
    """Somebody clicks and buys all the time: ids of clicks, the click of each order, and which sales were refused."""

    system: System
    key: str
    name: str
    visitors: dict[str, int]
    clicks: list[str] = field(default_factory=list)
    orders: dict[str, str] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problem: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.wait(0.02):
                with suppress(ConnectionError):  # a tracker was killed: nothing was promised
                    self._go_shopping()
        except BaseException as error:
            self.problem = error

    def _go_shopping(self) -> None:
        number = len(self.orders)
        visitor = list(self.visitors)[number % len(self.visitors)] if number % 2 else None
        if visitor:
            self.visitors[visitor] += 1  # another link each time: the same one again would be a duplicate
        click_id, _ = self.system.click(LINKS[self.visitors[visitor] % 3 if visitor else 0], visitor)
        self.clicks.append(click_id)
        order = f"{self.name}-{number}"
        self.orders[order] = click_id
        try:
            taken = sell(self.system, self.key, order, click_id) == 202
        except ConnectionError:
            taken = False
        (self.taken if taken else self.refused).append(order)

    def go_on(self, what: list[str], more: int) -> None:
        """Until there are so many more of them."""
        wanted = len(what) + more
        until(lambda: len(what) >= wanted or self.problem)
        assert self.problem is None

    def repeat_refused(self) -> None:
        """As a shop does."""
        for order in self.refused:
            until(lambda order=order: sell(self.system, self.key, order, self.orders[order]) == 202)

    def prove(self) -> None:
        """Each click is stored once, each sale once, credited once, and to the click that it came with: where it was
        reported again later, he may have clicked again."""
        query = (
            f"SELECT click_id, count() AS n FROM clicks WHERE click_id IN ({_listed(self.clicks)}) GROUP BY click_id"
        )
        stored = {row["click_id"]: int(row["n"]) for row in self.system.sql(query)}
        assert stored == dict.fromkeys(self.clicks, 1)
        query = f"SELECT order_id, click_id FROM credits WHERE startsWith(order_id, '{self.name}-')"
        rows = [(row["order_id"], row["click_id"]) for row in self.system.sql(query)]
        assert sorted(order for order, _ in rows) == sorted(self.orders)
        assert set(self.taken) <= {order for order, click_id in rows if click_id == self.orders[order]}
        assert {click_id for _, click_id in rows} <= set(self.clicks)
        query = f"SELECT count() AS n FROM conversions WHERE startsWith(order_id, '{self.name}-')"
        assert int(self.system.sql(query)[0]["n"]) == len(self.orders)


def _listed(ids: list[str]) -> str:
    return ", ".join(f"'{id}'" for id in ids)


@contextmanager
def shopping(system: System, key: str, name: str, visitors: dict[str, int]) -> Iterator[Shopping]:
    stop, one = threading.Event(), Shopping(system, key, name, visitors)
    thread = threading.Thread(target=one.run, args=(stop,))
    thread.start()
    try:
        yield one
    finally:
        stop.set()
        thread.join()
    assert one.problem is None, one.problem


@pytest.fixture(scope="module")
def visitors(whole: System) -> dict[str, int]:
    """People who have clicked before, several on each shard; and how often each has come back."""
    return {whole.click(LINKS[0])[1]: 0 for _ in range(40)}


def test_everything_works_as_on_one_server(
    whole: System, cluster: Cluster, key: str, visitors: dict[str, int], tmp_path: Path
) -> None:
    whole.apply(GADGETS)
    assert {shard_of_visitor(visitor) for visitor in visitors} == set(range(SHARDS))
    assert len({cluster.node_of(keys.clicks(shard)).socket for shard in range(SHARDS)}) == 3
    token = whole.key("postback")
    returned = {}
    for number, visitor in enumerate(visitors):
        visitors[visitor] += 1 + number % 2
        returned[visitor] = whole.click(LINKS[visitors[visitor]], visitor)[0]
    elsewhere = 0
    for number, (visitor, click_id) in enumerate(returned.items()):
        order = f"first-{number}"
        elsewhere += shard_of_order(order) != shard_of_visitor(visitor)
        if number % 3 == 0:
            assert sell(whole, key, order, click_id) == 202
        elif number % 3 == 1:
            sale = {"program": "shoes", "order_id": order, "click_id": click_id, "amount": "5", "token": token}
            assert whole.get("/postback?" + urlencode(sale)).status == 200
        else:
            sale = {"program": "shoes", "order_id": order, "amount": "5"}
            assert whole.get("/pixel.gif?" + urlencode(sale), Cookie=f"lc={visitor}").status == 200
    assert elsewhere > 10 and {shard_of_order(f"first-{n}") for n in range(len(returned))} == set(range(SHARDS))
    for number, (visitor, click_id) in enumerate(returned.items()):
        credit = whole.explain("shoes", f"first-{number}")
        assert (credit["affiliate"], credit["click_id"]) == (("bob", "carol")[number % 2], click_id)
        assert {one["affiliate"] for one in credit["candidates"]} == {"alice", credit["affiliate"]}, visitor
    returns = [{"program": "shoes", "order_id": f"first-{n}", "reversal_id": "r", "amount": "1"} for n in range(12)]
    for _ in range(2):
        assert {one["status"] for one in whole.post_json("/v1/reversals", returns, key).json["results"]} == {"accepted"}
    file = tmp_path / "offline.csv"
    file.write_text(
        "order_id,click_id,amount\n" + "".join(f"till-{n},{list(returned.values())[n]},5\n" for n in range(12))
    )
    assert "12 rows: 12 accepted" in whole.run("import-conversions", str(file), "--program", "shoes").stdout
    rest(whole, cluster)
    counts = (
        "SELECT (SELECT count() FROM clicks) AS clicks, (SELECT count() FROM credits) AS credits, "
        "(SELECT count() FROM reports WHERE kind = 'reversal' AND outcome = 'accepted') AS reversals"
    )
    assert {name: int(n) for name, n in whole.sql(counts)[0].items()} == {"clicks": 80, "credits": 52, "reversals": 12}


def test_the_private_port_and_forgetting_reach_every_server(whole: System, cluster: Cluster, key: str) -> None:
    metrics = whole.request("GET", "/metrics", port=whole.admin_port, host="127.0.0.1").body.decode()
    assert len(re.findall(r"^lastcookie_log_entries{", metrics, re.MULTILINE)) == 3 * SHARDS + 1
    used = float(re.findall(r"^lastcookie_log_server_bytes (\S+)", metrics, re.MULTILINE)[0])
    assert used > 2 * max(node.redis.info("memory")["used_memory"] for node in cluster.nodes)
    click_id, visitor = whole.click("/c/boots")
    assert sell(whole, key, "forgotten", click_id) == 202
    whole.explain("shoes", "forgotten")
    rest(whole, cluster)
    held = [node for node in cluster.nodes if _files_say(node.folder, visitor)]
    assert held
    answer = json.loads(whole.run("forget", "--visitor", visitor, "--json").stdout)
    assert answer["found"]["clicks"] == 1, answer
    assert not any(_files_say(node.folder, visitor) for node in cluster.nodes)
    assert whole.check() == []


def _files_say(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_of_an_unsafe_cluster_the_server_is_named(cluster: Cluster) -> None:
    unsafe = cluster.nodes[2]
    check_durability(cluster.redis, accept_loss=False)
    unsafe.redis.config_set("appendfsync", "everysec")
    with pytest.raises(UnsafeLogServer, match=f":{cluster.port(unsafe)} .* appendfsync is everysec"):
        check_durability(cluster.redis, accept_loss=False)
    unsafe.redis.config_set("appendfsync", "always")


def test_a_call_that_failed_is_not_repeated(cluster: Cluster) -> None:
    """It may have been done all the same."""
    for connect in (console.log_client.connect_redis, tracker.log_client.connect_redis):
        assert connect(Settings(), cluster.url).retry.get_retries() == 0


def test_a_connection_that_was_closed_is_no_defect(cluster: Cluster) -> None:
    """As with one server: tests/tracker/test_log_client.py."""

    async def ask() -> int:
        client = tracker.log_client.connect_redis(Settings(), cluster.url)
        await tracker.log_client.memory_of_servers(client)
        client.get_primaries()[0]._free[0]._writer.transport.abort()
        with pytest.raises(LostConnection, match="closed"):
            await tracker.log_client.memory_of_servers(client)
        return len(await tracker.log_client.memory_of_servers(client))

    assert uvloop.run(ask()) == len(cluster.nodes)


def test_a_new_start_goes_on_where_the_last_one_ended(whole: System, cluster: Cluster, key: str) -> None:
    """Links work while the whole cluster is away."""
    click_id, visitor = whole.click("/c/boots")
    assert sell(whole, key, "before", click_id) == 202
    assert whole.stop() == 0
    for node in cluster.nodes:
        node.kill()
    whole.start(wait=False)

    def is_redirected() -> bool:
        with suppress(ConnectionError):  # not started yet
            return bool(whole.click("/c/boots"))
        return False

    until(is_redirected)
    assert spooled_bytes(whole) > 0
    for node in cluster.nodes:
        node.start()
    whole.wait_until_ready()
    assert sell(whole, key, "before", click_id) == 202
    later, _ = whole.click("/c/laces", visitor)
    sale = {"program": "shoes", "order_id": "after", "amount": "5"}
    whole.get("/pixel.gif?" + urlencode(sale), Cookie=f"lc={visitor}")
    assert whole.explain("shoes", "after")["click_id"] == later
    assert whole.explain("shoes", "before")["version"] == 1
    rest(whole, cluster)


def test_a_dead_master_costs_no_click_and_no_sale(
    whole: System, cluster: Cluster, key: str, visitors: dict[str, int]
) -> None:
    """First one only hangs. Then the one that the URL names first dies, and a tracker with it: its successor finds the
    others by the second name."""
    hanging, dead = cluster.nodes[2], cluster.nodes[0]
    with shopping(whole, key, "dead", visitors) as shop:
        shop.go_on(shop.taken, 30)
        hanging.freeze()
        shop.go_on(shop.refused, 2)
        hanging.thaw()
        shop.go_on(shop.taken, 10)
        dead.kill()
        shop.go_on(shop.refused, 10)
        whole.kill("tracker-0")
        shop.go_on(shop.refused, 5)
        shop.go_on(shop.taken, 10)  # on the other masters
        (whole.folder / "dan.toml").write_text('[[affiliate]]\nid = "dan"\nname = "Dan"\n')
        assert not whole.run("apply", str(whole.folder / "dan.toml")).stderr  # the new tracker knows him at once
        assert spooled_bytes(whole) > 0
        dead.start()
        until(lambda: spooled_bytes(whole) == 0)
        shop.go_on(shop.taken, 30)
    shop.repeat_refused()
    rest(whole, cluster)
    shop.prove()


def test_a_shard_moves_to_another_master_while_people_click(
    whole: System, cluster: Cluster, key: str, visitors: dict[str, int]
) -> None:
    """There key by key, as every server can; and back at once, as Valkey 9 can."""
    slot, (first, second, _) = key_slot(b"3"), cluster.nodes
    with shopping(whole, key, "moved", visitors) as shop:
        shop.go_on(shop.taken, 20)
        assert cluster.move_slot(slot, first, second, lambda: time.sleep(0.02)) > 10
        assert cluster.node_of(keys.clicks(3)) is second
        until(lambda: spooled_bytes(whole) == 0)
        shop.go_on(shop.taken, 30)
        cluster.hand_over_slot(slot, second, first)
        until(lambda: spooled_bytes(whole) == 0)
        shop.go_on(shop.taken, 30)
    shop.repeat_refused()
    rest(whole, cluster)
    shop.prove()


def test_a_replica_that_takes_over_is_told_what_it_never_got(
    whole: System, cluster: Cluster, key: str, visitors: dict[str, int]
) -> None:
    """It was cut off before the last clicks and sales, and knows less than the tables: only its shards lack something,
    and no sale is taken twice."""
    master, of_it = cluster.nodes[1], [1, 5]
    assert [cluster.node_of(keys.clicks(shard)) for shard in of_it] == [master, master]
    replica = cluster.add_replica(of=master)
    replica.kill()
    with shopping(whole, key, "unheard", visitors) as unheard:
        unheard.go_on(unheard.taken, 30)
    rest(whole, cluster)
    idle = RedisCluster.from_url(f"redis://127.0.0.1:{cluster.port(cluster.nodes[0])}")
    epochs = [cluster.redis.get(keys.ready(shard)) for shard in range(SHARDS)]
    with shopping(whole, key, "failover", visitors) as shop:
        master.kill()
        replica.start()
        shop.go_on(shop.refused, 5)
        replica.redis.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        until(lambda: all(cluster.node_of(keys.clicks(shard)) is replica for shard in of_it))
        until(lambda: spooled_bytes(whole) == 0, 60)
        shop.go_on(shop.taken, 30)
    shop.repeat_refused()
    for order, click_id in unheard.orders.items():
        assert sell(whole, key, order, click_id) == 202
    rest(whole, cluster)
    unheard.prove()
    shop.prove()
    check_durability(idle, accept_loss=False)  # does not ask the one that it knew and that is dead
    idle.close()
    anew = [cluster.redis.get(keys.ready(shard)) for shard in range(SHARDS)]
    assert [shard for shard in range(SHARDS) if anew[shard] != epochs[shard]] == of_it
    assert [shard for shard in range(SHARDS) if cluster.redis.exists(keys.gap(shard))] == of_it
    assert "evidence is complete" in whole.run("rebuild-state").stdout
    assert not any(cluster.redis.exists(keys.gap(shard)) for shard in range(SHARDS))
