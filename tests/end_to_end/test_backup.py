"""`lastcookie backup` and `restore`: under load, the disk lost, and every click from before is there once."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from console.backup_files import BackupError
from console.restored import restore
from schemas.settings import load as load_settings
from tests.system import PATIENCE_SECONDS, System


@contextmanager
def load(system: System, key: str) -> Iterator[tuple[list[str], list[str]]]:
    """Clicks and sales all the time; the click ids and order ids that were acknowledged so far."""
    stop = threading.Event()
    clicked: list[str] = []
    sold: list[str] = []

    def run(name: int) -> None:
        while not stop.is_set():
            click_id, visitor = system.click("/c/boots")
            clicked.append(click_id)
            clicked.append(system.click("/c/sneakers", visitor)[0])
            order = f"B-{name}-{len(sold)}-{len(clicked)}"
            sale = {"program": "shoes", "order_id": order, "amount": "1.00", "currency": "EUR", "click_id": click_id}
            if system.post_json("/v1/conversions", sale, key).status == 202:
                sold.append(order)

    threads = [threading.Thread(target=run, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield clicked, sold
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def back_up(system: System, folder: Path, check: bool = True) -> Any:
    done = system.run("backup", str(folder), check=False)
    assert not check or done.returncode == 0, f"{done.stdout}{done.stderr}\n{system.logs()}"
    return done


def test_what_was_acknowledged_before_a_backup_is_there_after_the_disk_is_lost(
    start_system: Callable[..., System], tmp_path: Path
) -> None:
    """Once each, and decided; the engine dies in the first backup, and the log server is frozen during the second, so
    that some of it is in a spool only."""
    failpoint = {"LASTCOOKIE_FAILPOINT": f"backup_before_rename:1@{tmp_path / 'fired'}"}
    system = start_system(failpoint, redis={"shards": 2}, server={"workers": 1})
    key, secret, folder = system.key(), system.key("signing"), tmp_path / "backup"
    with load(system, key) as (clicked, sold):
        while len(clicked) < 200:
            time.sleep(0.05)
        first = back_up(system, folder, check=False)
        assert first.returncode == 2 and not folder.exists() and (tmp_path / "fired").exists(), first
        system.wait_until(lambda: system._ask("GET", "/readyz").status == 200, 60)
        system.kill("valkey", signal.SIGSTOP)
        try:
            system.wait_until(lambda: any((system.data_dir / "spool").glob("*/*.spool")))
            before = list(clicked), list(sold)
            back_up(system, folder)
        finally:
            system.kill("valkey", signal.SIGCONT)
        system.wait_until(lambda: len(clicked) > len(before[0]) + 20)
        after = len(clicked)
    assert [*folder.glob("spool/*/*.spool")]
    assert after > len(before[0]) > 200 and len(before[1]) > 50
    assert not (system.data_dir / "clickhouse" / "shadow").exists()
    old_keys = (system.data_dir / "click-id.keys").read_bytes()
    assert system.stop() == 0
    shutil.rmtree(system.data_dir)

    done = system.run("restore", str(folder), "--json")
    assert json.loads(done.stdout)["rows"]["clicks"] > 0
    assert (system.data_dir / "click-id.keys").read_bytes() == old_keys
    again = system.run("restore", str(folder), check=False)
    assert again.returncode == 2 and "data_dir_not_empty" in again.stderr
    system.environ.clear()
    system.start()

    def lacking() -> set[str]:
        """Clicks and orders that were acknowledged before the backup."""
        ids = {row["click_id"] for row in system.sql("SELECT click_id FROM clicks LIMIT 100000")}
        orders = {row["order_id"] for row in system.sql("SELECT order_id FROM credits LIMIT 100000")}
        return {*before[0]} - ids | {*before[1]} - orders

    deadline = time.monotonic() + PATIENCE_SECONDS
    while (lacked := lacking()) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert not lacked
    assert system.sql("SELECT count() - uniqExact(click_id) AS doubled FROM clicks") == [{"doubled": 0}]
    assert system.check() == []
    assert json.loads(system.run("replay", "--json").stdout)["verified"]
    sale = {"program": "shoes", "order_id": before[1][0], "amount": "1.00", "currency": "EUR"}
    assert system.post_json("/v1/conversions", sale, key).json["status"] == "duplicate"
    assert system.post_signed("/v1/conversions", json.dumps(sale), secret).json["status"] == "duplicate"
    system.click("/c/boots")
    assert _refusals(system, folder, tmp_path) == []


def _refusals(system: System, backup: Path, tmp_path: Path) -> list[str]:
    """What is wrong with how bad backups are refused."""
    wrong = []
    settings = load_settings(system.config, tmp_path / "data", {})

    def refused(code: str, change: Callable[[Path], None]) -> None:
        copy, target = tmp_path / "copy", tmp_path / "data"
        shutil.copytree(backup, copy)
        change(copy)
        try:
            restore(copy, settings)
            found = "restored"
        except BackupError as error:
            found = error.code
        if found != code or target.exists() or [*tmp_path.glob(".*restoring")]:
            wrong.append(f"{code}: {found}")
        shutil.rmtree(copy)

    def manifest(**changes: Any) -> Callable[[Path], None]:
        def change(copy: Path) -> None:
            raw = orjson.loads((copy / "manifest.json").read_bytes())
            files = raw["files"] | changes.pop("more_files", {})
            (copy / "manifest.json").write_bytes(orjson.dumps({**raw, "files": files, **changes}))

        return change

    def flip(copy: Path) -> None:
        path = next(copy.glob("clickhouse/clicks/*/data.packed"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    outside = tmp_path / "outside"
    outside.write_text("x")
    rows = orjson.loads((backup / "manifest.json").read_bytes())["rows"]
    refused("backup_damaged", flip)
    refused("backup_damaged", lambda copy: next(copy.glob("clickhouse/clicks/*/data.packed")).unlink())
    refused("backup_damaged", lambda copy: _link(copy / "click-id.keys", outside))
    shutil.copytree(backup, tmp_path / "fewer")  # a process of its own: the engine opens one path only
    manifest(rows={**rows, "clicks": rows["clicks"] + 1})(tmp_path / "fewer")
    fewer = system.run("restore", str(tmp_path / "fewer"), "--data-dir", str(tmp_path / "data"), check=False)
    if "backup_damaged" not in fewer.stderr or (tmp_path / "data").exists():
        wrong.append(fewer.stderr)
    refused("backup_foreign", manifest(more_files={"../outside": [1, "00"]}))
    refused("backup_foreign", manifest(more_files={"spool/../../outside": [1, "00"]}))
    refused("backup_malformed", manifest(files="all"))
    refused("backup_malformed", lambda copy: (copy / "manifest.json").write_text("{"))
    refused("backup_not_found", lambda copy: (copy / "manifest.json").unlink())
    refused("backup_newer", manifest(schema=["0001_tables", "9999_later"]))
    refused("backup_newer", manifest(format=2))
    refused("shards_differ", manifest(shards=3))
    answers = {
        "folder_not_empty": back_up(system, backup, check=False),
        "folder_within": back_up(system, system.data_dir / "backup", check=False),
    }
    return wrong + [f"{code}: {done.stderr}" for code, done in answers.items() if code not in done.stderr]


def _link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("body", [{}, [], {"folder": "relative", "config": ""}, {"folder": "/a/../b", "config": ""}])
def test_bad_requests_are_refused(system: System, body: Any) -> None:
    assert system._ask("POST", "/backup", body).status == 400
