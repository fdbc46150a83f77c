"""The documentation is true: its commands run and print what it says, its lists are those of the code."""

import ast
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from attribution.evidence import FLAGS, METHODS, Reason
from console.cli import main
from console.entities import CHECKS
from schemas.entity_keys import MONEY_KEYS, entity_types
from schemas.settings_fields import settings_table
from schemas.terms import KEYS as TERMS_KEYS
from tests.conftest import need
from tests.docs.documents import DOCUMENTS, ROOT, Command, anchors, blocks, commands, links, named, rows, text_of
from tests.system import System
from tracker.report_fields import ALIASES, KNOWN

_SECONDS_MAX = 20.0


# Commands


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if any(commands(path))], ids=lambda path: path.stem)
def test_every_command_prints_what_the_document_shows(path: Path, system: System, tmp_path: Path) -> None:
    """Run in order against a running system; times, ids and ports may differ, and `…` stands for anything."""
    need("curl")
    shell = _Shell(system, tmp_path)
    for block in blocks(path, "toml"):
        if match := re.match(r"# (\S+\.toml)\n", block.text):
            (tmp_path / match[1]).write_text(block.text)
    for command in commands(path):
        shell.run(command)


def test_every_command_of_ours_is_in_a_block_that_is_run() -> None:
    """Only `lastcookie up` itself, and what needs no system, may stand elsewhere."""
    for path in DOCUMENTS:
        for block in blocks(path):
            if block.language != "console":
                for line in block.text.splitlines():
                    is_ours = re.match(r"\$? *(curl|(\S*/)?lastcookie) ", line)
                    assert not is_ours or re.search(r"lastcookie (up|verify-config)\b", line), (path.name, line)


class _Shell:
    """Runs commands one after another, as in one terminal, on one instance."""

    def __init__(self, system: System, folder: Path) -> None:
        self._folder = folder
        self._ports = {"8080": system.edge_port, "8081": system.admin_port, "8082": system.shop_port}
        self._state = folder / "exported"
        self._state.write_text("")
        (folder / "var").symlink_to(system.data_dir)
        command = folder / "bin" / "lastcookie"
        command.parent.mkdir()
        run = f'exec {sys.executable} -m console.cli "$command" --config {system.config} "$@"'
        command.write_text(f"#!/bin/sh\ncommand=$1\nshift\n{run}\n")
        command.chmod(0o755)
        self._environ = {
            **os.environ,
            **system.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, command: Command) -> None:
        """Until it prints what it should: what was just recorded is in the tables a moment later."""
        wanted = self._pattern(command.printed)
        deadline = time.monotonic() + _SECONDS_MAX
        asks = re.match(r"lastcookie (explain|sql|check)|curl.*/(readyz|metrics|explain)", command.text)
        while True:
            done = self._once(command.text)
            printed = self._general(done.stdout, {str(port): name for name, port in self._ports.items()})
            if wanted.fullmatch(printed) and (done.returncode != 0) == command.fails:
                return
            if not asks or time.monotonic() > deadline:
                raise AssertionError(
                    f"$ {command.text}\n{done.stdout}\nstatus {done.returncode}, not\n{command.printed}"
                )
            time.sleep(0.2)

    def _once(self, text: str) -> "subprocess.CompletedProcess[str]":
        for name, port in self._ports.items():
            text = text.replace(name, str(port))
        script = f". {self._state}\n{text}\nstatus=$?\nexport -p >{self._state}\nexit $status"
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )

    def _pattern(self, printed: str) -> "re.Pattern[str]":
        """A line `…` is any lines, `…` within a line any text."""
        lines = [re.escape(line).replace("…", ".*") for line in self._general(printed, {}).split("\n")]
        return re.compile("\n".join("(?s:.*)" if line == ".*" else line for line in lines))

    @staticmethod
    def _general(text: str, ports: dict[str, str]) -> str:
        """The text without what differs from run to run."""
        for port, name in ports.items():
            text = text.replace(f":{port}", f":{name}")
        text = "\n".join(line.rstrip() for line in text.replace("\r", "").strip().split("\n"))
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", "TIME", text)
        text = re.sub(r"(click_id\W{1,4}|\()[\w-]{32}(?![\w-])", r"\1CLICK", text)
        text = re.sub(r"lc=[\w-]{11};", "lc=VISITOR;", text)
        text = re.sub(r"no\. \d{16}", "no. NUMBER", text)
        return re.sub(r"terms [0-9a-f]{16}", "terms HASH", text)


# Snippets


def test_the_python_recipes_do_what_they_say(
    system: System, api_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The click id becomes a cookie and leaves the URL; the sale is reported, and a contradiction is told."""
    monkeypatch.setenv("KEY", api_key)
    monkeypatch.setenv("SIGNING_KEY", system.key("signing"))
    edge = f"http://localhost:{system.edge_port}"
    recipes: dict[str, dict[str, object]] = {}
    for block in blocks(ROOT / "docs" / "merchants.md", "python"):
        name = block.text.split("\n", 1)[0].removeprefix("# ")
        recipes[name] = {}
        exec(compile(block.text.replace("https://track.example", edge), name, "exec"), recipes[name])

    click_id, _ = system.click("/c/boots")
    answered: list[tuple[str, list[tuple[str, str]]]] = []
    keep_click = recipes["keep_click.py"]["keep_click"]
    assert callable(keep_click)
    shop = keep_click(lambda environ, start_response: [b"page"])
    query = f"a=1&click_id={click_id}&b=%20"
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "//boots", "QUERY_STRING": query}
    assert shop(request, lambda *values: answered.append(values)) == [b""]
    headers = dict(answered[0][1])
    assert headers["Location"] == "/boots?a=1&b=%20"
    assert headers["Set-Cookie"].startswith(f"_lc_shoes={click_id}; Path=/; Max-Age=2592000;")
    assert shop({**request, "QUERY_STRING": "a=1&click_id=short"}, None) == [b"page"]

    report_sale = recipes["report_sale.py"]["report_sale"]
    assert callable(report_sale)
    assert report_sale("recipe-2", "12.50", "EUR", click_id)["status"] == "accepted"
    assert report_sale("recipe-2", "12.5", "EUR")["status"] == "duplicate"
    with pytest.raises(RuntimeError, match="conversion_conflict"):
        report_sale("recipe-2", "13", "EUR")
    assert system.explain("shoes", "recipe-2")["click_id"] == click_id

    report_signed = recipes["report_signed.py"]["report_signed"]
    assert callable(report_signed)
    assert report_signed({"program": "shoes", "order_id": "recipe-2", "amount": "12.50"})["status"] == "duplicate"
    refund = {"program": "shoes", "order_id": "recipe-2", "reversal_id": "recipe-2"}
    assert report_signed(refund, "/v1/reversals")["status"] == "accepted"


# For analysts


@pytest.fixture(scope="module")
def traded(system: System, api_key: str) -> System:
    """A system with clicks, sales, a reversal, a refusal and a refused report in its tables."""
    _, visitor = system.click("/c/boots?sub1=docs")
    click_id, _ = system.click("/c/sneakers", visitor)
    system.get("/c/docs-no-such-link")
    system.get("/pixel.gif?program=shoes&order_id=docs-1&amount=10", Cookie=f"lc={visitor}")
    system.get("/pixel.gif?program=shoes&order_id=undefined&amount=10")
    sale = {"program": "shoes", "order_id": "docs-2", "amount": "20", "currency": "EUR", "click_id": click_id}
    assert system.post_json("/v1/conversions", sale, api_key).status == 202
    refund = {"program": "shoes", "order_id": "docs-2", "reversal_id": "r"}
    assert system.post_json("/v1/reversals", refund, api_key).status == 202
    for order_id in ("docs-1", "docs-2"):
        system.explain("shoes", order_id)
    return system


QUERIES = list(blocks(ROOT / "docs" / "analysts.md", "sql"))


def test_there_are_ten_queries_and_more() -> None:
    assert len(QUERIES) >= 10


@pytest.mark.parametrize("query", [block.text for block in QUERIES], ids=lambda text: text.split("\n")[0][:60])
def test_every_query_runs(query: str, traded: System) -> None:
    traded.sql(query)


def test_the_queries_about_what_happened_find_it(traded: System) -> None:
    """Those that any system with a click and a sale has an answer to."""
    found = sum(1 for block in QUERIES if traded.sql(block.text))
    assert found >= 10


@pytest.mark.parametrize("table", re.findall(r"^### `(\w+)`$", text_of("analysts"), re.MULTILINE))
def test_every_column_is_described_and_there(table: str, system: System) -> None:
    described = [name for row in rows(text_of("analysts"), f"### `{table}`") for name in named(row[0])]
    answer = system._ask("POST", "/sql", {"query": f"SELECT * FROM {table} LIMIT 0"})
    assert sorted(described) == sorted(answer.json["columns"])


def test_every_refusal_of_a_query_is_described() -> None:
    described = {row[0].strip("`") for row in rows(text_of("analysts"), "## Asking")}
    source = "".join((ROOT / "console" / name).read_text() for name in ("sql_guard.py", "admin.py", "analyst.py"))
    codes = set(re.findall(r'Refused\(\s*"(\w+)"', source)) | set(re.findall(r'_error\(\s*\d+,\s*"(\w+)"', source))
    codes |= set(re.findall(r'"(query_\w+)"', source)) - {"query"}
    codes -= {"token_invalid", "conversion_unknown", "stores_unreachable", "explain_busy"}
    assert described >= codes - {"query_malformed"} and described <= codes | {"query_malformed"}


@pytest.mark.parametrize("name", ["analysts", "affiliates"])
def test_every_flag_and_reason_is_explained(name: str) -> None:
    heading = {"analysts": ("## Flags of a click", "## Reasons of a candidate")}.get(
        name, ("## Clicks that do not count", "## Sales that somebody else gets, or nobody")
    )
    flags = [flag for row in rows(text_of(name), heading[0]) for flag in named(row[0])]
    reasons = [reason for row in rows(text_of(name), heading[1]) for reason in named(row[0])]
    assert sorted(flags) == sorted(FLAGS)
    assert sorted(reasons) == sorted(Reason)


def test_every_method_is_named() -> None:
    behind = text_of("analysts").partition("Methods (`credits.method`)")[2].partition("\n\n")[0]
    assert set(METHODS) <= set(named(behind))


# For merchants


def test_every_error_code_of_the_edge_is_described_and_there() -> None:
    described = {(int(row[0]), row[1].strip("`")) for row in rows(text_of("merchants"), "## Errors")}
    codes = set(_edge_errors())
    assert described - codes == set(), "described, and not in the code"
    assert codes - described == set(), "in the code, and not described"


def _edge_errors() -> Iterator[tuple[int, str]]:
    """Status and code of every error that the edge can answer, out of its source."""
    trees = {name: ast.parse((ROOT / "tracker" / f"{name}.py").read_text()) for name in _EDGE_MODULES}
    for tree in trees.values():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "FieldError":
                status, code = call.args[:2]
                if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                    yield int(status.value), str(code.value)
    yield from ((400, f"{own}_ambiguous") for own in set(ALIASES.values()))
    yield from ((400, f"{param}_malformed") for param in _params(trees["report_fields"]))
    refusals = (ROOT / "tracker" / "refusals.py").read_text()
    yield from ((int(status), code) for status, code in re.findall(r'(\d{3}): \(b"[^"]*", b"(\w+)"\)', refusals))
    api = (ROOT / "tracker" / "answers.py").read_text()
    yield from ((int(status), code) for status, code in re.findall(r'(40[45]): \("(\w+)",', api))


_EDGE_MODULES = ("answers", "api", "authorization", "conversions", "explain", "postbacks", "report_fields")


def _params(tree: ast.Module) -> Iterator[str]:
    """What functions are called with, by constant, as their argument `param`."""
    places = {
        node.name: [argument.arg for argument in node.args.args].index("param")
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(argument.arg == "param" for argument in node.args.args)
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if isinstance(call.func, ast.Name) and call.func.id in places:
            argument = call.args[places[call.func.id]]
            if isinstance(argument, ast.Constant):
                yield str(argument.value)


def test_every_parameter_and_alias_of_a_sale_is_described() -> None:
    text = text_of("merchants")
    described = [name for row in rows(text, "## Parameters of a sale") for name in named(row[0])]
    assert sorted(described) == sorted(KNOWN)
    aliases = text.partition("Aliases, as other trackers call them:")[2].partition("\n\n")[0]
    assert set(ALIASES) <= set(named(aliases))


def test_every_key_of_an_entity_is_described() -> None:
    described = {row[0].strip("`"): set(named(" ".join(row[1:]))) for row in rows(text_of("merchants"), _FILE_HEADING)}
    for name, entity_type in entity_types(CHECKS).items():
        assert set(entity_type.keys) - set(MONEY_KEYS.get(name, ())) <= described[f"[[{name}]]"], name
        for required in {*entity_type.identity, *entity_type.required}:
            assert f"**`{required}`**" in text_of("merchants")
    assert set(TERMS_KEYS) <= described["[program.attribution]"]


_FILE_HEADING = "## The file for `lastcookie apply`"


# For operators


def test_every_metric_is_described_and_there(system: System) -> None:
    described = {named(row[0])[0].partition("{")[0] for row in rows(text_of("operators"), "## Watching it")}
    body = system.request("GET", "/metrics", port=system.admin_port, host="127.0.0.1").body.decode()
    shown = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", body, re.MULTILINE))
    assert described == {name for name in shown if not name.endswith("_created")}


def test_every_outcome_that_is_counted_is_described() -> None:
    sources = "\n".join(path.read_text() for path in [*ROOT.glob("tracker/*.py"), *ROOT.glob("console/*.py")])
    counted = set(re.findall(r'counters\[f?"(\w+)', sources))
    text = text_of("operators").partition("| outcome at the edge |")[2].partition("Worth an alarm")[0]
    described = {name for line in text.splitlines() if line.startswith("|") for name in named(line)}
    assert counted <= described


def test_every_limit_says_what_happens_at_it() -> None:
    described = {name.split()[-1] for row in rows(text_of("operators"), "## Limits") for name in named(row[0])}
    assert {row.key for row in settings_table() if row.section == "limits"} <= described


def test_every_command_is_listed() -> None:
    described = {named(row[0])[0].split()[1] for row in rows(text_of("operators"), "## Commands")}
    assert described == set(main.commands)


def test_every_setting_has_a_comment() -> None:
    """In config.toml, on its line or on the line before."""
    lines = (ROOT / "config.toml").read_text().splitlines()
    for row in settings_table():
        start = lines.index(f"[{row.section}]")
        at = next(n for n in range(start, len(lines)) if re.match(rf"{row.key} +=|{row.key}=", lines[n]))
        assert " # " in lines[at] or lines[at - 1].startswith("#"), f"{row.section}.{row.key}"


def test_settings_without_effect_are_said_to_have_none() -> None:
    """A setting that nothing reads, and only such a one, stands in the operators' guide as having no effect yet."""
    packages = ("tracker", "attribution", "console", "schemas")
    paths = [path for package in packages for path in (ROOT / package).rglob("*.py") if path.stem != "settings_fields"]
    sources = "\n".join(path.read_text() for path in paths)
    sections = {"attribution", "data", "redis"}  # read as a whole, or under other names
    unread = {
        f"{row.section}.{row.key}"
        for row in settings_table()
        if row.section not in sections and not re.search(rf"\.{row.key}\b", sources)
    }
    said = re.search(r"no effect yet: (.*?)\n\n", text_of("operators"), re.DOTALL)
    assert unread == (set(named(said[1])) if said else set())


# All of them


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for link in links(path):
            name, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), (path.name, link)
            assert not anchor or anchor in anchors(target), (path.name, link)


def test_every_guide_and_decision_is_linked() -> None:
    linked = {(path.parent / link.partition("#")[0]).resolve() for path in DOCUMENTS for link in links(path)}
    assert not {path.name for path in DOCUMENTS if path.parent != ROOT} - {path.name for path in linked}


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text()
    reasons = [row[0].strip("`") for row in rows(text, "## Decision")]
    assert sorted(reasons) == sorted(project["dependencies"])
    reasons = [row[0].strip("`") for row in rows(text, "For development only:")]
    assert sorted(reasons) == sorted(project["optional-dependencies"]["dev"])


def test_every_decision_says_context_decision_and_consequences() -> None:
    for path in (ROOT / "docs" / "decisions").glob("*.md"):
        assert {"context", "decision", "consequences"} <= anchors(path), path.name


def test_the_glossary_is_in_order() -> None:
    words = [row[0].lower() for row in rows(text_of("glossary"), "# Glossary")]
    assert words == sorted(words) and len(set(words)) == len(words)


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
