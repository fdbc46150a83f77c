"""A log server that is empty, or came back older, is told what it must know; an unsafe one is refused."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from console import bootstrap as bootstrap_module
from console.bootstrap import Keeper, UnsafeLogServer, bootstrap, check_durability, has_gone_back, is_ready
from console.entities import read_projection
from schemas import keys
from schemas.reversals import reversal_content
from tests.decisions import Bench
from tests.log_server import LogServer
from tests.system import System

Start = Callable[..., System]


@pytest.fixture
def bench(log_server: LogServer, tables: Any, tmp_path: Path) -> Bench:
    """Two programs, a click, some sales, all in the tables."""
    found = Bench(log_server, tables, tmp_path, shards=4)
    found.program("p")
    found.program("q")
    found.affiliate("alice")
    found.clicks(found.click(1))
    for number in range(10):
        found.sale(f"o{number}", "v", amount="10.0000", program="pq"[number % 2])
    found.sale("o0", "v", source="pixel", received=5)  # a second revision
    found.decide()
    return found


def claims(bench: Bench) -> dict[bytes, bytes]:
    return {key: bench.redis.get(key) for key in bench.redis.keys("lc{*}:o:*")}


def test_what_is_told_is_what_was_there(bench: Bench) -> None:
    before, entities = claims(bench), read_projection(bench.redis)[1]
    assert len(before) == 10
    bench.redis.flushall()
    assert not is_ready(bench.redis, 4)
    bootstrap(bench.redis, bench.tables, 4)
    assert claims(bench) == before
    mark, found = read_projection(bench.redis)
    assert found == entities and mark == "3 0-0"
    assert is_ready(bench.redis, 4)
    assert [bench.redis.get(keys.ready(shard)) for shard in range(4)] == [b"2"] * 4
    assert all(bench.redis.exists(keys.gap(shard)) for shard in range(4))


def test_it_is_safe_to_repeat_and_in_parts_however_small(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap_module, "_CHUNK", 3)
    monkeypatch.setattr(bootstrap_module, "_CLAIMS_AT_ONCE", 4)
    before = claims(bench)
    bench.redis.flushall()
    bootstrap(bench.redis, bench.tables, 4)
    bootstrap(bench.redis, bench.tables, 4)
    assert claims(bench) == before
    assert bench.redis.get(keys.ready(0)) == b"2"


def test_reversals_are_told_too_so_that_a_retry_is_one(bench: Bench) -> None:
    content = {"amount": "5.0000", "items": "", "reason": "returned"}
    line = {"report_id": "x", "received_at": "7", "ts": "7", "program": "p", "order_id": "o0", "goal": "sale"}
    line |= {"kind": "reversal", "outcome": "accepted", "reversal_id": "r1", **content}
    bench.redis.xadd(keys.conversions(0), {"reports": orjson.dumps(line)})
    whole = {**line, "report_id": "y", "reversal_id": "r2", "amount": None, "reason": ""}
    bench.redis.xadd(keys.conversions(0), {"reports": orjson.dumps(whole)})
    bench.load()
    bench.redis.flushall()
    bootstrap(bench.redis, bench.tables, 4)
    shard = keys.shard_of_order("p", "o0", "sale", 4)
    assert bench.redis.get(keys.reversal(shard, "p", "o0", "sale", "r1")) == reversal_content(**content)  # type: ignore[arg-type]
    assert bench.redis.get(keys.reversal(shard, "p", "o0", "sale", "r2")) == reversal_content()


def test_a_fresh_installation_is_ready_in_the_first_epoch_and_lacks_nothing(log_server: LogServer, tables: Any) -> None:
    assert Keeper(log_server.redis, tables, 2, False).keep()
    run = log_server.redis.info("server")["run_id"].encode()
    assert {key: log_server.redis.get(key) for key in log_server.redis.keys("*")} == {
        **{keys.ready(shard).encode(): b"1" for shard in range(2)},
        **{keys.server(place).encode(): run for place in keys.places(2)},
    }


def test_a_server_that_is_ready_is_left_alone(bench: Bench) -> None:
    keeper = Keeper(bench.redis, bench.tables, 4, False)
    assert not keeper.keep()
    bench.redis.delete(keys.ready(3))
    assert keeper.keep()
    assert [bench.redis.get(keys.ready(shard)) for shard in range(4)] == [b"1", b"1", b"1", b"2"]


# A server that came back older


def test_a_server_that_came_back_from_an_older_copy_is_told_what_it_has_forgotten(
    log_servers: Any, tables: Any, tmp_path: Path
) -> None:
    """Orders that were claimed after the copy are claimed again, later revisions replace earlier ones, entities too."""
    (tmp_path / "data").mkdir()
    server = LogServer(log_servers("valkey").binary, tmp_path / "data").start()
    try:
        bench = Bench(server, tables, tmp_path)
        bench.program()
        bench.sale("both", source="pixel", amount="1.0000")
        bench.clicks(bench.click(1))
        bench.decide()
        keeper = Keeper(server.redis, tables, 1, False)
        assert not keeper.keep() and not has_gone_back(server.redis, tables, [0])
        server.copy_to(tmp_path / "copy")
        time.sleep(0.01)
        bench.sale("both", "v", received=5, amount="1.0000")
        bench.sale("later", "v")
        bench.affiliate("alice")
        bench.decide()
        before = {key: server.redis.get(key) for key in server.redis.keys("lc{0}:o:*")}
        server.kill()
        server.folder, server._client = tmp_path / "copy", None
        bench.redis = server.start().redis
        assert len(bench.redis.keys("lc{0}:o:*")) == 1
        assert has_gone_back(server.redis, tables, [0])
        assert Keeper(server.redis, tables, 1, False).keep()
        assert {key: server.redis.get(key) for key in server.redis.keys("lc{0}:o:*")} == before
        assert server.redis.get(keys.ready(0)) == b"2" and server.redis.exists(keys.gap(0))
        assert ("affiliate", "alice") in read_projection(server.redis)[1]
        assert not Keeper(server.redis, tables, 1, False).keep()
    finally:
        server.stop()


def test_lost_clicks_alone_show_that_a_server_went_back(bench: Bench) -> None:
    assert not has_gone_back(bench.redis, bench.tables, range(4))
    for stream in (keys.clicks(0), keys.credits(1), keys.conversions(2)):
        kept = bench.redis.dump(stream)
        bench.redis.delete(stream)
        if kept is not None:
            assert has_gone_back(bench.redis, bench.tables, range(4)), stream
            bench.redis.restore(stream, 0, kept)
    assert not has_gone_back(bench.redis, bench.tables, range(4))


def test_a_server_that_started_anew_is_looked_at_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(bench.redis, bench.tables, 4, False)
    keeper.keep()
    looks = []
    monkeypatch.setattr(bootstrap_module, "has_gone_back", lambda *_: looks.append(1))
    keeper.keep()
    assert looks == []
    noted = bench.redis.get(keys.server(3))
    bench.server.kill()
    bench.server.start()
    assert not keeper.keep() and looks == [1]
    assert noted != bench.redis.get(keys.server(3)) == bench.redis.info("server")["run_id"].encode()


# An unsafe server


@pytest.mark.parametrize(
    ("name", "value", "safe"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("appendfsync", "no", "always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "noeviction"),
    ],
)
def test_a_server_that_can_lose_what_it_acknowledged_is_refused(
    log_server: LogServer, name: str, value: str, safe: str
) -> None:
    check_durability(log_server.redis, accept_loss=False)
    log_server.redis.config_set(name, value)
    try:
        with pytest.raises(UnsafeLogServer, match=f"{name} is {value}, must be {safe}.*redis.accept_loss"):
            check_durability(log_server.redis, accept_loss=False)
        check_durability(log_server.redis, accept_loss=True)
    finally:
        log_server.redis.config_set(name, safe)


def test_a_server_that_hides_its_configuration_is_refused(log_server: LogServer) -> None:
    """A managed one may: whoever knows that it is safe says so."""
    log_server.redis.acl_setuser("guest", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
    from redis import Redis

    guest = Redis(unix_socket_path=str(log_server.socket), username="guest", password="x")
    with pytest.raises(UnsafeLogServer, match="does not show"):
        check_durability(guest, accept_loss=False)
    check_durability(guest, accept_loss=True)
    guest.close()


# Whole systems


def post(system: System, key: str, order: str, **more: Any) -> Any:
    return system.post_json("/v1/conversions", {"program": "shoes", "order_id": order, **more}, key)


def post_until_taken(system: System, key: str, order: str, **more: Any) -> tuple[Any, int]:
    """The first answer that is not 503, and how many were."""
    deadline, refused = time.monotonic() + 20, 0
    while True:
        answer = post(system, key, order, **more)
        if answer.status != 503:
            return answer, refused
        assert time.monotonic() < deadline, system.logs()
        refused += 1
        time.sleep(0.02)


def test_a_wiped_log_server_takes_no_sale_until_it_knows_the_orders(start_system: Start) -> None:
    """Clicks flow all the time; an old order's retry is a duplicate; a sale after the wipe finds its click of before
    in the tables."""
    system = start_system(server={"workers": 1})
    key = system.key()
    earlier, visitor = system.click("/c/boots")
    first = post(system, key, "old", click_id=earlier, amount="10.00")
    assert first.status == 202
    system.explain("shoes", "old")
    system.redis.flushall()
    assert system.get("/c/boots", Cookie=f"lc={visitor}").status == 302
    again, refused = post_until_taken(system, key, "old", click_id=earlier, amount="10.00")
    assert refused > 0
    assert again.json == {**first.json, "status": "duplicate"}
    later, _ = system.click("/c/sneakers")
    assert post(system, key, "new", click_id=earlier).status == 202
    assert post(system, key, "newer", click_id=later).status == 202
    credit = system.explain("shoes", "new")
    assert credit["affiliate"] == "alice" and system.redis.exists(keys.gap(0))
    assert system.explain("shoes", "newer")["affiliate"] == "bob"
    assert system.explain("shoes", "old")["version"] == 1
    system.apply('[[affiliate]]\nid = "carol"\nname = "C"\n')
    system.wait_for_rows("SELECT count() AS n FROM affiliates", 3)
    assert system.check() == []


def test_a_log_server_whose_data_were_deleted_and_one_restored_from_a_backup(start_system: Start) -> None:
    """Both know all orders again, also those after the backup."""
    system = start_system(server={"workers": 1})
    key = system.key()
    click_id, _ = system.click("/c/boots")
    answers = {"o1": post(system, key, "o1", click_id=click_id)}
    system.explain("shoes", "o1")
    assert system.stop() == 0
    backup = system.folder / "backup"
    shutil.copytree(system.data_dir / "valkey", backup)
    system.start()
    answers["o2"] = post(system, key, "o2", click_id=click_id)
    system.explain("shoes", "o2")
    assert system.stop() == 0

    for restore in (False, True):
        shutil.rmtree(system.data_dir / "valkey")
        if restore:
            shutil.copytree(backup, system.data_dir / "valkey")
        system.start()
        for order, first in answers.items():
            again, _ = post_until_taken(system, key, order, click_id=click_id)
            assert again.json == {**first.json, "status": "duplicate"}, (restore, order)
        order = f"new-{restore}"
        assert post(system, key, order, click_id=click_id).status == 202
        assert system.explain("shoes", order)["affiliate"] == "alice"
        assert system.check() == []
        assert system.stop() == 0


def test_up_refuses_an_unsafe_log_server_and_says_how_to_accept_the_loss(log_servers: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    server = LogServer(log_servers("valkey").binary, tmp_path / "data", {"appendfsync": "everysec"}).start()
    (tmp_path / "system").mkdir()
    try:
        settings = {"redis": {"url": server.url}, "server": {"workers": 1}}
        system = System(tmp_path / "system", settings).start(wait=False)
        assert system.process is not None
        assert system.process.wait(60) != 0
        said = (system.folder / "output.txt").read_text()
        assert "appendfsync is everysec, must be always" in said and "redis.accept_loss = true" in said
        settings["redis"]["accept_loss"] = True  # type: ignore[assignment]
        (tmp_path / "other").mkdir()
        system = System(tmp_path / "other", settings).start()
        assert system.click("/c/boots")[0]
        assert system.stop() == 0
    finally:
        server.stop()
