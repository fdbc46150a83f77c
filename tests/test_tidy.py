"""The repo checks itself: who may import whom, no orphans, and SQL that any ClickHouse server documents."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "tracker", "attribution", "console")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

LUA = [path for package in PACKAGES for path in sorted((ROOT / package).glob("*.lua"))]

MAY_IMPORT = {
    "schemas": {"schemas"},
    "tracker": {"schemas", "tracker"},
    "attribution": {"schemas", "attribution"},
    "console": {"schemas", "tracker", "attribution", "console"},
}

FUNCTIONS = set(
    """
    argMax arrayEnumerate bloom_filter by_time concat count fromUnixTimestamp64Milli has isNull JSONExtract
    JSONExtractArrayRaw JSONExtractInt JSONExtractString max min now now64 toString toUnixTimestamp64Milli toYYYYMM
    uniqExact numbers JSONLength any arrayConcat arrayDistinct arrayJoin arrayMap arraySort groupArray groupUniqArray
    arrayExists currentDatabase toDate toStartOfHour transform
    groupUniqArrayArray greatest hasAny if least length splitByChar toUInt64 formatRow file
    """.split()
)
FUNCTIONS |= set(
    """
    JSONExtractKeys argMin arrayFilter arrayMin cityHash64 countIf countSubstrings empty ifNull isNotNull isValidJSON
    isValidUTF8 match multiIf nullIf parseDateTime64BestEffortOrNull position replaceRegexpOne sipHash64 startsWith
    substring sum toInt64 toInt64OrNull toUInt32 toUInt8 trimLeft upper
    """.split()
)
"""Those that `attribute` reads people's files with."""

TYPES_AND_WORDS = set(
    """
    file_sales file_clicks file_heavy file_credits
    Array DateTime64 Decimal LowCardinality Nullable Tuple Bool String UInt16 UInt32 UInt64 Int64 DateTime
    IN AND OR AS BY JOIN FROM SELECT EXCEPT TYPE VALUES USING NOT ON OVER PARTITION ORDER WHERE clicks refusals
    reports conversion_versions credit_versions entity_versions dead_letters migrations terms past claims
    stage KEY forgets forgetting
    """.split()
)
FORMATS = {"JSONEachRow", "JSON", "Parquet"}
SETTINGS = {
    "async_insert",
    "fsync_after_insert",
    "input_format_defaults_for_omitted_fields",
    "input_format_null_as_default",
    "input_format_parallel_parsing",
    "input_format_skip_unknown_fields",
    "max_insert_block_size",
    "min_insert_block_size_rows",
    "output_format_json_quote_64bit_integers",
    "output_format_json_quote_decimals",
}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    """schemas imports nothing of ours; tracker and attribution never each other; console may use all."""
    package = path.relative_to(ROOT).parts[0]
    ours = {name.partition(".")[0] for name in _imports(path)} & set(PACKAGES)
    assert ours <= MAY_IMPORT[package]


def test_nothing_reads_clock_or_chance_but_where_things_are_wired() -> None:
    """Pure code takes the time and its randomness as arguments."""
    shells = {"app.py", "engine.py", "cli.py", "up.py", "entities.py", "loader.py", "worker.py", "metrics.py"}
    shells |= {"admin.py", "demo.py", "demo_shop.py", "check.py", "import_conversions.py", "key.py"}
    banned = re.compile(
        r"\b(time\.time|time_ns|monotonic\(|datetime\.now|utcnow|uuid4|urandom|random\.|secrets\.token)"
    )
    for path in MODULES:
        if path.name not in shells:
            found = [line for line in path.read_text().splitlines() if banned.search(line)]
            assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_every_sql_and_lua_file_is_used() -> None:
    code = "\n".join(path.read_text() for path in MODULES)
    for path in [*ROOT.glob("*/queries/*.sql")]:
        assert f'"{path.stem}"' in code, path.name
    for path in LUA:
        assert f'"{path.name}"' in code, path.name


def test_every_lua_file_names_its_keys() -> None:
    for path in LUA:
        assert "-- KEYS 1 " in path.read_text(), path.name


def _sql() -> Iterator[tuple[str, str]]:
    """Every SQL text of ours with where it stands: files, and literals that begin like SQL."""
    for path in [*ROOT.glob("*/queries/*.sql"), *ROOT.glob("schemas/clickhouse/*.sql")]:
        code = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("--"))
        yield path.name, code
    begins = re.compile(r"\s*(SELECT|INSERT|CREATE|ALTER|WITH|DROP|OPTIMIZE)\b")
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and begins.match(node.value):
                yield path.name, node.value
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
                if begins.match(text):
                    yield path.name, text


def test_sql_uses_only_functions_that_every_server_documents() -> None:
    """The embedded engine and a server must understand the same SQL: each function is on the list above."""
    found = [(name, word) for name, text in _sql() for word in re.findall(r"\b([A-Za-z_]\w*)\s*\(", text)]
    assert len(found) > 50
    unknown = {(name, word) for name, word in found if word not in FUNCTIONS | TYPES_AND_WORDS}
    assert not unknown


def test_all_sql_goes_through_the_common_client() -> None:
    """Nothing imports chDB: what works embedded works by URL. Formats and settings are documented ones."""
    for path in MODULES:
        assert not {name for name in _imports(path) if name.partition(".")[0] == "chdb"}, path.name
        text = path.read_text()
        assert set(re.findall(r'fmt="([A-Z]\w+)"', text)) <= FORMATS, path.name
        if path.name in ("loader.py", "admin.py"):
            named = set(re.findall(r'"((?:async|input|output|max_insert|min_insert)_[a-z0-9_]+)": ', text))
            assert named <= SETTINGS, path.name


def test_rows_of_events_have_the_columns_of_their_tables() -> None:
    """Every member that the edge and the worker write is a column of the table it goes to."""
    schema = (ROOT / "schemas" / "clickhouse" / "0001_tables.sql").read_text()
    tables = {
        name: set(re.findall(r"^    (\w+) +[A-Z]", body, re.MULTILINE))
        for name, body in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)\n\((.*?)\n\)", schema, re.DOTALL)
    }
    for path in sorted((ROOT / "schemas" / "clickhouse").glob("*.sql")):
        for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN IF NOT EXISTS (\w+)", path.read_text()):
            tables[table].add(column)
    written = {
        "reports": _keys_of(ROOT / "tracker" / "report_rows.py", "report_line")
        | _keys_of(ROOT / "tracker" / "report_rows.py", "reversal_line"),
        "conversion_versions": _keys_of(ROOT / "tracker" / "report_rows.py", "conversion_line"),
        "credit_versions": _keys_of(ROOT / "attribution" / "case.py", "credit_line"),
        "entity_versions": _keys_of(ROOT / "schemas" / "projection.py", "version_line"),
    }
    for table, names in written.items():
        assert names and names <= tables[table], (table, names - tables[table])


def _keys_of(path: Path, function: str) -> set[str]:
    """The keys of the outermost dictionaries that a function writes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = next(n for n in ast.walk(node) if isinstance(n, ast.Dict))
            return {key.value for key in first.keys if isinstance(key, ast.Constant)}
    raise AssertionError(f"{path.name} has no {function}")


def test_no_file_is_a_second_program() -> None:
    """At 400 lines, look for a second idea."""
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert not {name: lines for name, lines in long.items() if lines > 400}


def test_nothing_names_a_machine() -> None:
    """No path of somebody's machine, and no host of a package registry, in any file that git has."""
    words = re.compile(r"/(home|root|work|farm)/[a-z]|pypi\.org|registry\.npmjs|deb\.debian|pythonhosted")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(names) > 50
    for path in (ROOT / name for name in names):
        if path.is_file() and path != Path(__file__):
            assert not words.search(path.read_text("utf-8", "replace")), path
