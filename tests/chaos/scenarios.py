"""What can go wrong with processes, restores, orders and clocks; outages.py has what goes wrong with the log server.

Each scenario takes the world, makes its fault happen under load, and tells rows: promise, figure, seen.
"""

import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from schemas import keys
from tests.chaos.clocks import Clock
from tests.chaos.driver import Driver, Line, Sale
from tests.chaos.proof import wait_until_at_rest
from tests.chaos.world import Outside, World, engine_counted, keys_of
from tests.system import System

_DAY = 86_400


def kills(world: World) -> None:
    """Each of tracker, engine and log server is killed at random moments while people click and buy."""
    chance = random.Random(f"{world.seed}/kills")
    killed = {"tracker": 0, "engine": 0, "valkey": 0}
    with world.embedded(redis={"shards": 4}) as system:
        driver = Driver(system, "kill", world.seed, keys_of(system))
        with driver.driving() as journal:
            while min(killed.values()) < world.size.kills or journal.acknowledged < world.size.events:
                for kind in chance.sample(sorted(killed), 3):
                    name = f"tracker-{chance.randrange(2)}" if kind == "tracker" else kind
                    wait_for_another(system, name, than=0)  # it may be waiting for its next start
                    wait_for_another(system, name, system.kill(name))
                    killed[kind] += 1
                    time.sleep(chance.random() * 0.8)
                if chance.random() < 0.5:  # else shops would hardly meet a system that is whole
                    _wait_a_while_until_ready(system)
        left = world.prove(system, system.redis, driver)
    figure = f"0 lost of {world.size.events:,} over {world.size.kills} kills per process"
    done = f"{journal.acknowledged:,} over {', '.join(f'{n} of {kind}' for kind, n in killed.items())}"
    done += f", {journal.errors.total()} requests broken off, {journal.statuses[503]} sales told 503"
    happened = min(killed.values()) < 3 or journal.errors.total() > 0  # of a few kills none may meet a request
    world.tell_left("acknowledged events survive SIGKILL of any process", figure, done, left, happened)


def _wait_a_while_until_ready(system: System) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError):
            if system.request("GET", "/readyz", port=system.admin_port, host="127.0.0.1").status == 200:
                time.sleep(1)
                return
        time.sleep(0.1)


def failpoints(world: World) -> None:
    """Processes die at their worst moments: between two inserts of a batch, after them and before the
    acknowledgement, with sales decided and not recorded, and in the middle of a spool's drain and take-over."""
    points = {
        "loader_between_tables": 9,
        "loader_before_ack": 4,
        "worker_before_record": 2,
        "spool_before_remove": 1,
        "spool_after_rename": 1,
    }
    fired = {name: world.folder / f"fired-{name}" for name in points}
    asked = ",".join(f"{name}:{passes}@{fired[name]}" for name, passes in points.items())
    with world.embedded({"LASTCOOKIE_FAILPOINT": asked}) as system:
        driver = Driver(system, "point", world.seed, keys_of(system))
        with driver.driving() as journal:
            deadline = time.monotonic() + 40
            while not all(path.exists() for path in fired.values()) and time.monotonic() < deadline:
                with frozen(system, "valkey"):
                    time.sleep(0.6)
                time.sleep(1.5)
        left = world.prove(system, system.redis, driver)
    passed = [name for name, path in fired.items() if path.exists()]
    for path in fired.values():
        path.unlink(missing_ok=True)
    done = f"{journal.acknowledged:,} events, died at {', '.join(passed)}"
    world.tell_left("… and at the worst moments (failpoints)", "0 lost", done, left, len(passed) == len(points))


def stale(world: World) -> None:
    """The log server dies and comes back from an old copy, made while nothing was loaded."""
    with world.outside() as outside:
        _restore_old_copy(world, outside, "stale", "a log server restored from a stale copy", set_back=False)


def stale_clock(world: World) -> None:
    """The same, and its clock was an hour ahead before: the new ids are smaller than those in the tables."""
    with world.outside() as outside:
        _restore_old_copy(world, outside, "back", "… and with its clock set back", set_back=True)


def _restore_old_copy(world: World, outside: Outside, run: str, promise: str, *, set_back: bool) -> None:
    system, server, _ = outside
    driver = Driver(system, run, world.seed, keys_of(system))
    copy = system.folder / "copy"
    with driver.driving() as journal:
        with frozen(system, "engine"):
            time.sleep(1)
            server.copy_to(copy)
            in_copy = journal.acknowledged
        if set_back:  # as if its clock had been an hour ahead from here on
            ahead = f"{time.time_ns() // 1_000_000 + 3_600_000}-0"
            for stream in filter(server.redis.exists, (keys.clicks(0), keys.conversions(0), keys.credits(0))):
                server.redis.execute_command("XSETID", stream, ahead)
        time.sleep(2)
    driver.report_the_rest()
    wait_until_at_rest(system, server.redis, 60)
    before = journal.acknowledged
    known = engine_counted(system, "rows_known_already")
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder, dirs_exist_ok=True)
    driver.repeat(200)
    with driver.driving():
        server.start()
        time.sleep(2)
    left = world.prove(system, server.redis, driver)
    again = engine_counted(system, "rows_known_already") - known
    epoch = int(server.redis.get(keys.ready(0)) or 0)
    done = f"{in_copy:,} events in the copy, {before:,} in the tables, {journal.acknowledged:,} in the end; "
    done += f"{again:,} rows came again, epoch {epoch}"
    world.tell_left(promise, "0 duplicates, 0 skipped", done, left, before > in_copy > 0 and again > 0 and epoch > 1)


def wiped(world: World) -> None:
    """The log server comes back empty, and shops repeat what they have reported at once."""
    with world.outside() as outside:
        system, server, _ = outside
        driver = Driver(system, "wiped", world.seed, keys_of(system))
        with driver.driving() as journal:
            time.sleep(2)
        driver.report_the_rest()
        wait_until_at_rest(system, server.redis, 60)
        orders, refused = len(journal.orders), journal.statuses[503]
        server.kill()
        shutil.rmtree(server.folder / "appendonlydir")
        driver.repeat(orders)
        with driver.driving():
            server.start()
            time.sleep(2)
        left = world.prove(system, server.redis, driver)
        refused = journal.statuses[503] - refused
    done = f"{orders:,} orders reported again, {refused} times 503 until their claims were rebuilt"
    world.tell_left("orders stay unique after the log server is lost", "0 doubled", done, left, refused > 0)


def orders(world: World) -> None:
    """One order by all channels at once, again after a restart, and again after 400 days."""
    count = world.size.reports
    clock = Clock(world.folder)
    with world.embedded(clock.environ) as system:
        driver = Driver(system, "order", world.seed, keys_of(system))
        clicked = driver.click(Line(system), "boots")
        assert clicked is not None
        statuses = _report_at_once(system, driver, clicked[0], count)
        system.explain("shoes", "order-one")
        system.stop()
        system.start()
        statuses += _report_at_once(system, driver, clicked[0], count // 10)
        clock.step(400 * _DAY)
        time.sleep(1)
        statuses += _report_at_once(system, driver, clicked[0], count // 10)
        time.sleep(world.size.quiet)
        loaded = "SELECT count() AS n FROM reports WHERE order_id = 'order-one'"
        system.wait_for_rows(loaded, sum(200 <= status < 300 for status in statuses))
        days = system.sql(_DAYS_BETWEEN)[0]["days"]
        credits = system.sql("SELECT affiliate FROM credits WHERE order_id = 'order-one'")
        versions = system.sql("SELECT count() AS n FROM credit_versions WHERE order_id = 'order-one'")[0]["n"]
        broken = [finding["name"] for finding in system.check()]
    refused = [status for status in statuses if not 200 <= status < 300]
    seen = (
        f"{len(statuses):,} reports over {days} days, {len(refused)} refused: {len(credits)} credit, {versions} version"
    )
    seen += f", check: {', '.join(broken) or 'ok'}"
    is_kept = len(credits) == versions == 1 and not refused and not broken and days >= 399
    world.tell(f"one order by all channels, {count:,} at once, after restart and 400 days", "1 credit", seen, is_kept)


_DAYS_BETWEEN = (
    "SELECT intDiv(toUnixTimestamp64Milli(max(received_at)) - toUnixTimestamp64Milli(min(received_at)), 86400000) "
    "AS days FROM reports WHERE order_id = 'order-one'"
)


def _report_at_once(system: System, driver: Driver, click_id: str, count: int) -> list[int]:
    """Reports of one order by all channels, all begun together; their statuses (0: nobody answered)."""
    together = threading.Barrier(count)
    statuses = [0] * count

    def report(number: int) -> None:
        channel = ("api", "postback", "tag", "pixel")[number % 4]
        together.wait()
        line = Line(system)
        statuses[number] = driver.report(line, Sale("order-one", channel, click_id, "alice", "49.90")) or 0
        line.close()

    threads = [threading.Thread(target=report, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def clocks(world: World) -> None:
    """The clock of trackers and engine is stepped: a leap second, ten minutes ahead, back, and an hour behind."""
    clock = Clock(world.folder)
    alarms = 0
    with world.embedded(clock.environ) as system:
        driver = Driver(system, "clock", world.seed, keys_of(system))
        with driver.driving(2) as journal:
            for ahead in (1, 0, 600, 0, -3600, 0):
                clock.step(ahead)
                time.sleep(0.7)
                ready = system.request("GET", "/readyz", port=system.admin_port, host="127.0.0.1")
                alarms += b"clock:" in ready.body
        left = world.prove(system, system.redis, driver)
        span = system.sql(_HIGHEST_AHEAD)[0]["seconds"]
    done = f"{journal.acknowledged:,} events while the clock was stepped 6 times, {alarms} alarms of /readyz"
    happened = alarms >= 3 and 500 <= span <= 610
    world.tell_left("clocks that step lose and double nothing", "0", f"{done}, clicks {span} s ahead", left, happened)


_HIGHEST_AHEAD = (
    "SELECT intDiv(max(toUnixTimestamp64Milli(ts) - toUnixTimestamp64Milli(received_at)), 1000) AS seconds FROM clicks"
)


@contextmanager
def frozen(system: System, name: str) -> Iterator[None]:
    """A process that gets no time."""
    system.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(AssertionError, ProcessLookupError):  # it died meanwhile
            system.kill(name, signal.SIGCONT)


def wait_for_another(system: System, name: str, than: int, seconds: float = 30) -> None:
    """Until the supervisor has started a successor. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if system.pid_of(name) != than:
                return
        except (AssertionError, OSError, ValueError):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} was not started again\n{system.logs()}")
        time.sleep(0.02)
