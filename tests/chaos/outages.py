"""What can go wrong with the log server and the disks while people click: they are redirected as ever."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from loadtests.figures import percentile
from tests.chaos.driver import Driver, Journal
from tests.chaos.proof import compare, spooled_bytes, wait_until_at_rest
from tests.chaos.proxy import Mode
from tests.chaos.world import Outside, World, answered, counted, full_disk, keys_of

_FIRST_MS_MAX = 100
_LATER_MS_MAX = 5
Fault = Callable[[Outside], AbstractContextManager[None]]


@contextmanager
def dead(outside: Outside) -> Iterator[None]:
    """Killed, and not started again until the end."""
    outside.server.kill()
    yield
    outside.server.start()


@contextmanager
def frozen(outside: Outside) -> Iterator[None]:
    """Stopped: connections stand, and nobody answers."""
    outside.server.freeze()
    yield
    outside.server.thaw()


@contextmanager
def out_of_memory(outside: Outside) -> Iterator[None]:
    """At its maxmemory: it answers, and takes nothing."""
    outside.server.redis.config_set("maxmemory", "1mb")
    yield
    outside.server.redis.config_set("maxmemory", "0")


@contextmanager
def disk_full(outside: Outside) -> Iterator[None]:
    """Its file cannot grow: with fsync on every write it ends itself."""
    assert outside.server.process is not None
    with full_disk(outside.server.process.pid):
        yield
    if outside.server.process.wait(5) == 0:
        raise AssertionError("the log server did not mind that its disk was full")
    outside.server.kill()
    outside.server.start()


def _by_network(mode: Mode) -> Fault:
    @contextmanager
    def fault(outside: Outside) -> Iterator[None]:
        outside.proxy.hits.clear()
        outside.proxy.mode = mode
        yield
        if not outside.proxy.hits.get(mode):
            raise AssertionError(f"nothing went through the proxy while it was to {mode}")
        outside.proxy.mode = "pass"
        if mode in ("blackhole", "lose_replies"):
            outside.proxy.cut()  # what was swallowed does not come out of a connection any more

    return fault


FAULTS: dict[str, Fault] = {
    "dead": dead,
    "frozen": frozen,
    "full (maxmemory)": out_of_memory,
    "with a full disk": disk_full,
    "slower than its timeout": _by_network("delay"),
    "swallowed by the network": _by_network("blackhole"),
    "resetting connections": _by_network("reset"),
    "closing half of them": _by_network("half_close"),
    "answering by the byte": _by_network("trickle"),
    "whose replies are lost": _by_network("lose_replies"),
}


IN_TIME = ("dead", "frozen", "full (maxmemory)", "with a full disk")
"""Those in which redirects are promised a time as well; of the network's it is told."""


def faults(world: World) -> None:
    """Each fault of the log server in turn, on one system, with clicks as fast as they go."""
    with world.outside() as outside:
        for number, (name, fault) in enumerate(FAULTS.items()):
            _play(world, outside, f"fault{number}", name, fault)


def _play(world: World, outside: Outside, run: str, name: str, fault: Fault) -> None:
    system = outside.system
    driver = Driver(system, run, world.seed)
    driver.click_for(100)
    with fault(outside):
        begin = time.monotonic()
        driver.click_for(world.size.redirects)
        happened = spooled_bytes(system) > 0
    left = world.prove(system, outside.server.redis, driver)
    journal = driver.journal
    first, later = _latencies_ms(journal, begin)
    done = f"{answered(journal)}; p99 {first:g} ms in the first second, {later:g} ms after"
    world.tell_left(
        f"redirects with the log {name}", f"100 % of {world.size.redirects:,}, 0 lost", done, left, happened
    )
    if journal.statuses[302] < len(journal.asked_clicks):
        world.tell(f"… answered, log {name}", "100 %", f"{journal.statuses}, {journal.errors}", False)
    if world.size.name == "full" and name in IN_TIME:
        is_fast = first <= _FIRST_MS_MAX and later <= _LATER_MS_MAX
        figure = f"p99 ≤ {_FIRST_MS_MAX} ms in the first second, ≤ {_LATER_MS_MAX} ms after"
        world.tell(f"… in time, log {name}", figure, f"{first:g} ms, {later:g} ms", is_fast)


def _latencies_ms(journal: Journal, begin: float) -> tuple[float, float]:
    """The 99th percentile of clicks that were asked in the first second after `begin`, and of those after it."""
    first = [took for at, took in journal.seconds if begin <= at < begin + 1]
    later = [took for at, took in journal.seconds if at >= begin + 1]
    return percentile([took * 1000 for took in first], 99), percentile([took * 1000 for took in later], 99)


def outage(world: World) -> None:
    """The log server is away for minutes; then the spool drains into it."""
    size = world.size
    with world.outside() as outside:
        system, server, _ = outside
        driver = Driver(system, "outage", world.seed)
        with dead(outside):
            journal = driver.click_for(size.outage_clicks, seconds=size.outage)
            kept = spooled_bytes(system)
        took = wait_until_at_rest(system, server.redis, size.drained_within * 3)
        left = world.prove(system, server.redis, driver)
    figure = f"0 lost of {size.outage_clicks:,} over {size.outage:g} s"
    world.tell_left(
        "clicks of an outage recovered", figure, f"{answered(journal)}, {kept:,} bytes spooled", left, kept > 0
    )
    world.tell("… drained", f"within {size.drained_within:g} s", f"{took:.1f} s", took <= size.drained_within)


def both_full(world: World) -> None:
    """The log is dead and the spool's disk full: nothing can be kept, and it is said."""
    with world.outside() as outside:
        system, server, _ = outside
        driver = Driver(system, "both", world.seed, keys_of(system))
        driver.click_for(100)
        pids = [system.pid_of(f"tracker-{number}") for number in range(2)]
        with dead(outside):
            with full_disk(*pids):
                driver.click_for(world.size.redirects)
                with driver.driving(2):
                    time.sleep(2)
            journal = driver.journal
            refused, taken = journal.statuses[503], len(journal.orders)
        driver.report_the_rest()
        wait_until_at_rest(system, server.redis, 60)
        time.sleep(1.5)  # the trackers tell their counts every second
        survived = pids == [system.pid_of(f"tracker-{number}") for number in range(2)]
        left = compare(driver.run, journal, system)
        lost, said = len(left.missing), counted(system, "clicks_unrecorded")
        fresh = Driver(system, "after", world.seed)
        fresh.click_for(100, threads=8)  # a hole is what has something behind it
        after = world.prove(system, server.redis, fresh)._replace(broken=[])
        holes = [hole for finding in system.check() if "served" in finding["name"] for hole in finding["broken"]]
    seen = f"{answered(journal)}; {lost:,} lost, {said:,} counted in clicks_unrecorded; check: {'; '.join(holes)}; "
    seen += f"{refused} sales refused by 503, {taken} taken; {'no' if survived else 'A'} tracker died; then {after}"
    is_kept = journal.statuses[302] == len(journal.asked_clicks) and lost == said > 0 and bool(holes)
    is_kept = is_kept and refused > 0 and taken == 0 and survived and after.is_clean
    world.tell("log dead and disk full: redirected, the loss counted", "100 %, lost = counted", seen, is_kept)
