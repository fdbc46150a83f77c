"""Starting and stopping: ports, locks, signals, children; on real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.log_server import LogServer
from tests.system import ROOT, System

Start = Callable[..., System]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _all_gone(pids: list[int], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_is_alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def _is_running(system: System, name: str) -> bool:
    try:
        return system.pid_of(name) > 0
    except AssertionError:
        return False


def _is_in_snapshot(system: System, link: str) -> bool:
    """It is written a second after a change."""
    path = system.data_dir / "links" / "links.snapshot"
    return path.exists() and f"link:{link}".encode() in path.read_bytes()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_c_drains_stops_and_leaves_no_process_behind(start_system: Start) -> None:
    system = start_system()
    assert system.process is not None
    children = _children(system.process.pid)
    assert len(children) >= 4
    click_id, _ = system.click("/c/boots")
    system.process.send_signal(signal.SIGINT)
    assert system.process.wait(60) == 0
    assert _all_gone(children)
    assert not list((system.data_dir / "spool").glob("*/*.spool"))
    rows = json.loads(system.run("sql", "SELECT click_id FROM clicks", "--json").stdout)  # stopped: the tables answer
    assert rows == [{"click_id": click_id}]
    assert system.run("explain", "shoes", "never", check=False).returncode == 1
    system.output.close()
    (system.folder / "output.txt").unlink()
    system.start()  # state survives: the click is there, once
    system.wait_for_rows("SELECT count() FROM clicks", 1)
    assert [row["click_id"] for row in system.sql("SELECT click_id FROM clicks")] == [click_id]


def test_children_do_not_outlive_a_killed_supervisor(start_system: Start) -> None:
    system = start_system()
    assert system.process is not None
    children = _children(system.process.pid)
    system.process.kill()
    system.process.wait()
    assert _all_gone(children, 30)
    system.output.close()
    (system.folder / "output.txt").unlink()
    system.start()
    assert system.get("/c/boots").status == 302


def test_a_child_that_dies_is_started_again(start_system: Start) -> None:
    system = start_system(server={"workers": 1})
    before = system.kill("tracker-0")
    assert system.get("/c/boots").status == 302  # the connection waits for the successor
    assert system.pid_of("tracker-0") != before


def test_a_second_start_on_the_same_folder_is_refused(start_system: Start) -> None:
    system = start_system()
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "up", "--config", str(system.config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "another `lastcookie up` is running" in done.stderr


def test_a_second_instance_needs_only_its_own_config_and_folder(start_system: Start) -> None:
    one, other = start_system(), start_system()
    one.click("/c/boots")
    one.wait_for_rows("SELECT count() FROM clicks", 1)
    assert other.sql("SELECT count() AS n FROM clicks") == [{"n": 0}]


def test_a_port_that_is_taken_stops_the_start_with_its_name(tmp_path: Path) -> None:
    system = System(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", system.edge_port))
        taken.listen()
        system.start(wait=False)
        assert system.process is not None
        assert system.process.wait(30) == 1
    assert f"cannot listen on 127.0.0.1:{system.edge_port}" in (tmp_path / "output.txt").read_text()
    system.output.close()


def test_an_unknown_key_stops_the_start_with_file_line_and_accepted_keys(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[server]\nlisten = "127.0.0.1:1"\nworker = 3\n')
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "up", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "config.toml:3" in done.stderr and "workers" in done.stderr
    assert not (tmp_path / "var").exists()


def test_what_people_changed_of_the_demo_survives_a_restart(start_system: Start) -> None:
    system = start_system()
    system.apply(
        f'[[link]]\ncode = "boots"\nprogram = "shoes"\naffiliate = "bob"\nurl = "{system.shop_url}/sneakers"\n'
    )
    system.stop()
    system.start()
    system.wait_for_rows("SELECT count() FROM links WHERE link = 'boots' AND affiliate = 'bob'", 1)
    assert "/sneakers?" in system.get("/c/boots").headers["location"]


def test_a_folder_with_a_long_path_works(tmp_path: Path) -> None:
    """A unix socket's path has 108 bytes; a data folder may be deeper."""
    deep = tmp_path / ("d" * 90) / ("e" * 60)
    deep.mkdir(parents=True)
    system = System(deep).start()
    try:
        assert system.get("/c/boots").status == 302
        assert system.check() == []
    finally:
        assert system.stop() == 0


def test_the_private_port_tells_health_readiness_and_metrics(system: System) -> None:
    system.click("/c/boots")
    system.wait_until(lambda: 'lastcookie_edge_total{outcome="clicks"' in _metrics(system))  # told every second
    health = system.request("GET", "/healthz", port=system.admin_port, host="127.0.0.1")
    ready = system.request("GET", "/readyz", port=system.admin_port, host="127.0.0.1")
    assert (health.status, ready.status, ready.json["problems"]) == (200, 200, [])
    assert "lastcookie_loader_lag_seconds" in _metrics(system)


def _metrics(system: System) -> str:
    return system.request("GET", "/metrics", port=system.admin_port, host="127.0.0.1").body.decode()


def test_the_private_ports_questions_need_the_token(system: System) -> None:
    answer = system.request(
        "POST", "/sql", json.dumps({"query": "SELECT 1"}), {"Authorization": "Bearer no"}, port=system.admin_port
    )
    assert (answer.status, answer.json["error"]["code"]) == (401, "token_invalid")
    assert os.stat(system.data_dir / "admin.token").st_mode & 0o077 == 0


def test_health_is_not_on_the_public_port(system: System) -> None:
    assert system.get("/metrics").status == 404
    assert system.get("/readyz").status == 404


def test_links_are_served_at_once_from_the_snapshot_with_the_log_gone(start_system: Start) -> None:
    """Stopped, its log server's folder taken away, started again: the redirect works while the log is empty."""
    system = start_system()
    system.wait_until(lambda: _is_in_snapshot(system, "boots"))
    system.stop()
    (system.data_dir / "valkey").rename(system.folder / "lost")
    system.start()
    click_id, _ = system.click("/c/boots")
    system.wait_for_rows("SELECT count() FROM clicks", 1)
    assert system.sql("SELECT click_id FROM clicks")[0]["click_id"] == click_id
    assert system.check() == []


def test_links_work_while_stores_cannot_be_reached_and_the_rest_when_they_can(
    start_system: Start, valkey: LogServer
) -> None:
    """A first start without its stores fails; a later one redirects from the snapshot for as long as it takes."""
    system = start_system(redis={"url": valkey.url})
    system.wait_until(lambda: _is_in_snapshot(system, "boots"))
    system.stop()
    valkey.kill()
    system.start(wait=False)
    deadline = time.monotonic() + 30
    while True:
        try:
            assert system.get("/c/boots").status == 302
            break
        except OSError:
            assert time.monotonic() < deadline, system.logs()
            time.sleep(0.1)
    system.wait_until(lambda: _is_running(system, "engine"))  # it leaves the cores to the trackers first
    engine = system.pid_of("engine")
    system.kill("engine")
    while not (_all_gone([engine]) and system.get("/c/boots").status == 302):
        assert time.monotonic() < deadline, system.logs()
    valkey.start()
    system.wait_until_ready()
    system.wait_for_rows("SELECT count() FROM clicks", 2)
    assert system.check() == []


def test_readers_go_first_where_cores_are_short(start_system: Start) -> None:
    system = start_system()
    engine, tracker, log = (system.pid_of(name) for name in ("engine", "tracker-0", "valkey"))
    threads = [int(thread.name) for thread in Path(f"/proc/{engine}/task").iterdir()]
    usual = os.getpriority(os.PRIO_PROCESS, tracker)
    assert os.getpriority(os.PRIO_PROCESS, log) == usual
    priorities = [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads]
    assert len(priorities) > 3  # loader, worker, ClickHouse's own: one of those takes -20 where it may
    assert {priority for priority in priorities if priority != -20} == {min(19, usual + 5)}


def test_as_many_trackers_as_cores_keep_to_one_each(start_system: Start) -> None:
    cores = os.sched_getaffinity(0)
    system = start_system(server={"workers": 0})
    places = [os.sched_getaffinity(system.pid_of(f"tracker-{number}")) for number in range(len(cores))]
    assert set().union(*places) == cores and all(len(place) == 1 for place in places)
    assert os.sched_getaffinity(system.pid_of("engine")) == os.sched_getaffinity(system.pid_of("valkey")) == cores


def test_other_numbers_of_trackers_go_where_there_is_room(start_system: Start) -> None:
    cores = os.sched_getaffinity(0)
    system = start_system(server={"workers": len(cores) + 1})
    assert all(os.sched_getaffinity(system.pid_of(f"tracker-{n}")) == cores for n in range(len(cores) + 1))
