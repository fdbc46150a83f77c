"""The commands as their users type them: what they print, and their exit status."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from click.testing import CliRunner

from console.cli import main
from tests.system import ROOT, System
from tracker.snapshot import load_snapshot

CASES = ROOT / "tests" / "attribution" / "cases"


def lastcookie(*arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "console.cli", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_apply_prints_the_difference_and_is_idempotent(system: System, tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text('[[affiliate]]\nid = "cli-carol"\nname = "Carol"\n')
    shown = system.run("apply", str(file), "--dry-run").stdout
    assert "cli-carol" in shown
    assert system.run("apply", str(file)).stdout == shown
    assert system.run("apply", str(file)).stdout == "no changes\n"
    assert json.loads(system.run("apply", str(file), "--json").stdout) == {
        "changes": [],
        "warnings": [],
        "dry_run": False,
    }


def test_apply_refuses_the_whole_file_and_names_every_mistake(system: System, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        '[[affiliate]]\nid = "cli-dave"\n[[link]]\ncode = "cli-x"\nprogram = "nowhere"\naffiliate = "cli-dave"\n'
        '[[program]]\nid = "shoes"\nmerchant = "acme"\n[program.attribution]\nwindow = "soon"\n'
    )
    done = system.run("apply", str(file), check=False)
    assert done.returncode == 2
    assert "bad.toml:11" in done.stderr and "window" in done.stderr and "30d" in done.stderr
    file.write_text(file.read_text().replace('"soon"', '"30d"'))
    done = system.run("apply", str(file), check=False)
    assert done.returncode == 2
    assert "bad.toml:5" in done.stderr and "nowhere" in done.stderr
    assert system.sql("SELECT count() AS n FROM affiliates WHERE affiliate = 'cli-dave'") == [{"n": 0}]


def test_a_key_is_shown_once_and_kept_as_a_hash(system: System) -> None:
    done = system.run("key", "acme", "--kind", "postback")
    key = done.stdout.strip()
    assert key.startswith("lcp_") and "once" in done.stderr
    answer = system.get(f"/postback?program=shoes&token={key}&order_id=cli-key-1")
    assert answer.json["status"] == "accepted"
    kept = b"".join(
        path.read_bytes() for path in system.data_dir.rglob("*") if path.is_file() and path.stat().st_size < 10**7
    )
    assert key.encode() not in kept and key[4:36].encode() not in kept


def test_a_revoked_key_opens_nothing(system: System) -> None:
    made = json.loads(system.run("key", "acme", "--kind", "postback", "--json").stdout)
    path = f"/postback?program=shoes&token={made['key']}&order_id=cli-revoked"
    assert system.get(path).status == 200
    assert system.run("key", "acme", "--revoke", made["id"]).stdout == f"{made['id']} is revoked\n"
    assert system.get(path).status == 401
    done = system.run("key", "acme", "--revoke", "nonsense", check=False)
    assert done.returncode == 2 and "nonsense" in done.stderr


def test_a_key_for_an_unknown_merchant_names_the_known_ones(system: System) -> None:
    done = system.run("key", "nobody", check=False)
    assert done.returncode == 2
    assert "'nobody'" in done.stderr and "acme" in done.stderr


def test_sql_prints_a_table_or_json_and_refuses_what_is_no_select(system: System) -> None:
    assert json.loads(
        system.run("sql", "SELECT program, currency FROM programs WHERE program = 'shoes'", "--json").stdout
    ) == [{"program": "shoes", "currency": "EUR"}]
    assert "shoes" in system.run("sql", "SELECT program FROM programs").stdout
    done = system.run("sql", "DROP TABLE clicks", check=False)
    assert done.returncode == 2 and "SELECT" in done.stderr
    done = system.run("sql", "SELECT * FROM file('/etc/passwd')", check=False)
    assert done.returncode == 2


def test_explain_of_an_unknown_sale_is_no(system: System) -> None:
    done = system.run("explain", "shoes", "cli-never", check=False)
    assert done.returncode == 1
    assert "cli-never" in done.stderr


def test_explain_json_has_the_columns_of_credits(system: System) -> None:
    _, visitor = system.click("/c/boots")
    system.get("/pixel.gif?program=shoes&order_id=cli-json", Cookie=f"lc={visitor}")
    system.explain("shoes", "cli-json")
    answer = json.loads(system.run("explain", "shoes", "cli-json", "--json").stdout)
    columns = set(system.sql("SELECT * FROM credits LIMIT 1")[0])
    assert columns <= set(answer)
    assert [candidate["reason"] for candidate in answer["candidates"]] == ["WON"]


def test_check_says_what_it_looked_at(system: System) -> None:
    done = system.run("check")
    assert "every click served is stored" in done.stdout and "FAIL" not in done.stdout


def test_decide_agrees_with_the_published_cases() -> None:
    done = lastcookie("decide", "--check", *(str(path) for path in sorted(CASES.glob("*.jsonl"))))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == sum(len(p.read_text().splitlines()) for p in CASES.glob("*.jsonl"))


def test_decide_reads_standard_input_and_ends_with_2_at_a_malformed_case() -> None:
    done = lastcookie("decide", "-", stdin='{"name": "x"}\n\n{"name": "y", "sale": {"order_id": "o", "ts": 1}}\n')
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 2
    assert first["name"] == "x" and "error" in first
    assert second == {"name": "y", "affiliate": None, "click_id": None, "method": "none", "losers": {}}


def test_decide_takes_the_options_that_all_commands_take(tmp_path: Path) -> None:
    case = '{"name": "y", "sale": {"order_id": "o", "ts": 1}}'
    done = lastcookie("decide", "--json", "--data-dir", str(tmp_path), "-", stdin=case)
    assert done.returncode == 0, done.stderr


def test_apply_of_a_file_that_is_no_text_is_named(system: System, tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes(b'[[affiliate]]\nid = "\xe9"\n')
    done = system.run("apply", str(file), check=False)
    assert done.returncode == 2
    assert "latin.toml" in done.stderr and "Traceback" not in done.stderr


def test_verify_config_names_every_error_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[server]\nworkers = "many"\n[attribution]\nwindow = "1 month"\n[nonsense]\n')
    done = lastcookie("verify-config", "--config", str(config))
    assert done.returncode == 2
    for place in ("config.toml:2", "config.toml:4", "config.toml:5"):
        assert place in done.stderr
    assert lastcookie("verify-config").returncode == 0


NEW_LINK = '[[link]]\ncode = "verify-x"\nprogram = "{program}"\naffiliate = "alice"\n'


def test_verify_config_finds_what_apply_would_refuse(system: System, tmp_path: Path) -> None:
    """While the system runs, and when it is down by what its trackers wrote down; the same lines, the same words."""
    good, bad, late = (tmp_path / name for name in ("good.toml", "bad.toml", "late.toml"))
    good.write_text(NEW_LINK.format(program="shoes"))
    bad.write_text(NEW_LINK.format(program="verify-p") + '[[program]]\nid = "shoes"\nmerchant = "nobody"\n')
    late.write_text('[[program]]\nid = "verify-p"\nmerchant = "acme"\nlanding_url = "https://s/"\ncurrency = "EUR"\n')
    refused = system.run("apply", str(bad), check=False)
    assert "bad.toml:3" in refused.stderr and "bad.toml:7" in refused.stderr
    snapshot = system.data_dir / "links" / "links.snapshot"
    down = tmp_path / "down"
    (down / "links").mkdir(parents=True)
    deadline = time.monotonic() + 20
    while not snapshot.exists() or load_snapshot(snapshot).get("program", "shoes") is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    shutil.copy(snapshot, down / "links")
    for where in ([], ["--data-dir", str(down)]):
        assert system.run("verify-config", *where, str(good)).stdout == "no problems\n"
        done = system.run("verify-config", *where, str(bad), check=False)
        assert (done.returncode, done.stderr) == (2, refused.stderr)
        later = bad.with_name("later.toml")
        later.write_text(NEW_LINK.format(program="verify-p"))
        assert system.run("verify-config", *where, str(late), str(later)).stdout == "no problems\n"
        problems = json.loads(system.run("verify-config", *where, "--json", str(bad), check=False).stdout)
        found = {(problem["line"], problem["key"]) for problem in problems}
        assert found == {(3, "link.program"), (7, "program.merchant")}
    assert system.sql("SELECT count() AS n FROM programs WHERE program = 'verify-p'") == [{"n": 0}]


def test_verify_config_where_nothing_is_known_reads_files_as_for_a_new_system(tmp_path: Path) -> None:
    config, file, empty = (tmp_path / name for name in ("config.toml", "f.toml", "missing.toml"))
    config.write_text("")
    file.write_text(NEW_LINK.format(program="shoes"))
    done = lastcookie("verify-config", "--config", str(config), str(file))
    assert done.returncode == 2 and "new system" in done.stderr
    assert "f.toml:3" in done.stderr and "f.toml:4" in done.stderr
    assert not (tmp_path / "var").exists(), "it looks and leaves nothing"
    done = lastcookie("verify-config", "--config", str(config), str(ROOT / "demo/entities.toml"), str(file))
    assert (done.returncode, done.stdout) == (0, "no problems\n")
    done = lastcookie("verify-config", "--config", str(config), str(empty), str(file))
    assert done.returncode == 2 and "missing.toml: cannot be read" in done.stderr
    assert "f.toml" not in done.stderr, "what it refers to may stand in the file that could not be read"
    config.write_text("[server]\nworkers = -1\n")
    done = lastcookie("verify-config", "--config", str(config), str(file))
    assert done.returncode == 2 and "config.toml:2" in done.stderr and "f.toml" not in done.stderr


def test_a_command_without_a_running_system_says_how_to_start_it(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[server]\nadmin_listen = "127.0.0.1:1"\n')
    for command in (["sql", "SELECT 1"], ["explain", "p", "o"], ["check"], ["apply", str(ROOT / "demo/entities.toml")]):
        done = lastcookie(*command, "--config", str(config))
        assert done.returncode == 2 and "lastcookie up" in done.stderr, command


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = lastcookie("check", "--config", str(tmp_path / "no.toml"))
    assert done.returncode == 2 and "no.toml" in done.stderr


def test_every_command_has_help() -> None:
    assert {"up", "apply", "key", "decide", "explain", "sql", "check", "verify-config", "demo"} <= main.commands.keys()
    for command in main.commands:
        done = CliRunner().invoke(main, [command, "--help"])
        assert done.exit_code == 0 and done.output.startswith(f"Usage: main {command}"), command


def test_a_command_does_not_load_what_only_the_processes_of_a_system_need() -> None:
    """Its user waits for that at every command."""
    script = "import sys, console.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "click" in loaded.split()
    assert not {"chdb", "clickhouse_connect", "starlette", "uvicorn"} & set(loaded.split())
