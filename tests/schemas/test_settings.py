"""Settings: what a file and the environment say, and what stops the start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from schemas.kinds import Address
from schemas.problems import Problem
from schemas.settings import SettingsError, load, variable
from schemas.settings_fields import Setting, Settings, settings_table

PROJECT_CONFIG = Path(__file__).parents[2] / "config.toml"
DEMO = {("demo", "entities"): "demo/entities.toml", ("demo", "shop_listen"): "127.0.0.1:8082"}


def load_text(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = folder / "config.toml"
    file.write_text(text, "utf-8")
    return load(file, None, environ or {})


def problems_of(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(SettingsError) as caught:
        load_text(folder, text, environ)
    return caught.value.problems


def test_a_missing_file_is_all_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path / "config.toml", None, {})
    assert settings.data.dir == tmp_path / "var"
    assert settings.server == Settings().server
    assert settings.limits == Settings().limits


def test_what_the_file_says_is_read_into_the_types_that_the_code_uses(tmp_path: Path) -> None:
    settings = load_text(
        tmp_path,
        """
        [server]
        listen = "[::]:80"
        keep_alive = "2m"
        [redis]
        url = "redis://log.example:6379"
        [demo]
        entities = "demo.toml"
        """,
    )
    assert settings.server.listen == Address("::", 80)
    assert settings.server.keep_alive == 120_000
    assert settings.redis.url == "redis://log.example:6379"
    assert settings.demo.entities == tmp_path / "demo.toml"


def test_paths_are_relative_to_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    assert load_text(tmp_path, '[data]\ndir = "../store"').data.dir == tmp_path / "../store"
    assert load_text(tmp_path, '[data]\ndir = "/srv/store"').data.dir == Path("/srv/store")


def test_the_folder_of_a_relative_file_comes_out_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(Path("config.toml"), None, {}).data.dir == tmp_path / "var"
    assert load(Path("config.toml"), Path("second"), {}).data.dir == tmp_path / "second"


def test_data_dir_of_the_command_line_wins_over_file_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[data]\ndir = "a"', "utf-8")
    assert load(file, tmp_path / "c", {"LASTCOOKIE_DATA_DIR": "b"}).data.dir == tmp_path / "c"


@pytest.mark.parametrize("row", list(settings_table()), ids=variable)
def test_the_environment_wins_over_the_file_for_every_key(row: Setting, tmp_path: Path) -> None:
    other = {
        "server.public_url": "https://x.example",
        "redis.url": "redis://x",
        "clickhouse.dsn": "clickhouse://x",
    }
    default = row.default
    written = other.get(f"{row.section}.{row.key}", ",".join(default) if isinstance(default, list) else str(default))
    settings = load_text(tmp_path, "", {variable(row): written.lower() if default is False else written})
    value = getattr(getattr(settings, row.section), row.key)
    expected = row.kind.read(row.kind.from_text(written.lower() if default is False else written))
    assert value == (tmp_path / expected if isinstance(expected, Path) else expected)


def test_an_unknown_section_and_an_unknown_key_are_refused_with_line_and_hint(tmp_path: Path) -> None:
    section, key = problems_of(tmp_path, "[servre]\nworkers = 1\n\n[limits]\nurl_byte = 1\n")
    assert (section.line, section.key) == (1, "servre")
    assert section.message == 'unknown section; did you mean "server"?'
    assert (key.line, key.key) == (5, "limits.url_byte")
    assert key.message == 'unknown key; did you mean "url_bytes"?'
    assert "header_bytes | header_count" in key.accepted


def test_a_section_that_is_a_value_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "server = 1")
    assert (problem.line, problem.message, problem.accepted) == (1, "not a section", "[server]")


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        '[server]\nworkers = 99\nlisten = "here"\n[attribution]\nwindow = "a month"\n[nothing]\n',
        {"LASTCOOKIE_REDIS_SHARDS": "0"},
    )
    assert [(problem.line, problem.key) for problem in problems] == [
        (None, "LASTCOOKIE_REDIS_SHARDS"),
        (2, "server.workers"),
        (3, "server.listen"),
        (5, "attribution.window"),
        (6, "nothing"),
    ]
    assert problems[1].accepted == "0 to 32"


def test_a_secret_is_repeated_neither_in_a_message_nor_in_the_repr(tmp_path: Path) -> None:
    secret = "hunter2"
    (problem,) = problems_of(tmp_path, "", {"LASTCOOKIE_REDIS_URL": f"{secret} with spaces"})
    assert secret not in str(problem)
    (problem,) = problems_of(tmp_path, f'[clickhouse]\ndsn = "{secret}"')
    assert (problem.line, problem.key) == (2, "clickhouse.dsn")
    assert secret not in str(problem)
    assert secret not in repr(load_text(tmp_path, f'[redis]\nurl = "redis://:{secret}@x"'))


def test_a_variable_of_a_known_section_that_is_no_key_is_refused_with_a_hint(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "", {"LASTCOOKIE_REDIS_ULR": "redis://x"})
    assert problem.key == "LASTCOOKIE_REDIS_ULR"
    assert problem.message == 'unknown variable; did you mean "LASTCOOKIE_REDIS_URL"?'


@pytest.mark.parametrize(
    "name", ["HOME", "LASTCOOKIE_FAILPOINT", "LASTCOOKIE_REDIS_PORT", "LASTCOOKIE_REDIS_PORT_6379_TCP_ADDR"]
)
def test_variables_that_are_not_meant_as_settings_are_left_alone(name: str, tmp_path: Path) -> None:
    assert load_text(tmp_path, "", {name: "x"}) == load_text(tmp_path, "")


def test_the_two_listeners_cannot_share_an_address_unless_the_system_chooses_the_port(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, '[server]\nlisten = "a:1"\nadmin_listen = "a:1"')
    assert (problem.line, problem.key) == (3, "server.admin_listen")
    both = load_text(tmp_path, '[server]\nlisten = "a:0"\nadmin_listen = "a:0"').server
    assert both.listen == both.admin_listen


def test_text_that_is_not_toml_is_a_settings_error_with_its_line(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, "[server]\nworkers =\n")
    assert problem.line == 2


def test_a_file_that_cannot_be_read_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    for path in (tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(SettingsError, match="cannot be read"):
            load(path, None, {})


def test_the_terms_defaults_are_plain_json_values() -> None:
    defaults = Settings().terms_defaults
    assert defaults["window"] == "30d"
    assert defaults["channels"] == []
    assert len(defaults) == 13


def test_the_config_file_of_the_project_names_every_key_with_its_default() -> None:
    """Only the demo differs: the project's own file has one, an installation has none."""
    written = tomllib.loads(PROJECT_CONFIG.read_text("utf-8"))
    expected: dict[str, dict[str, object]] = {}
    for row in settings_table():
        value = DEMO.get((row.section, row.key), row.default)
        expected.setdefault(row.section, {})[row.key] = value
    assert written == expected
    assert [list(section) for section in written.values()] == [list(section) for section in expected.values()]


def test_the_config_file_of_the_project_says_of_every_key_what_the_table_says() -> None:
    """The comment stands at the end of the key's line, or above it."""
    lines = PROJECT_CONFIG.read_text("utf-8").splitlines()
    for row in settings_table():
        start = lines.index(f"[{row.section}]")
        at = next(n for n in range(start, len(lines)) if re.match(rf"{row.key} = ", lines[n]))
        first = at
        while lines[first - 1].startswith("#"):
            first -= 1
        above = " ".join(line.removeprefix("# ") for line in lines[first:at])
        assert row.doc in f"{above} {lines[at]}", row


def test_the_config_file_of_the_project_loads() -> None:
    settings = load(PROJECT_CONFIG, None, {})
    assert settings.demo.entities == PROJECT_CONFIG.parent / "demo" / "entities.toml"
    assert settings.demo.shop_listen == Address("127.0.0.1", 8082)
