"""Settings: config.toml and the environment, read once at the start and passed as an argument.

An unknown or malformed key stops the start, with every problem at once. A variable
`LASTCOOKIE_<SECTION>_<KEY>` wins over the file; it is meant for secrets, but works for every key. What
settings there are stands in settings_fields.py. Called by the command line; leaves out whether a missing file
is an error (here: all defaults).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from schemas.problems import FileError, Problem, did_you_mean, listed
from schemas.settings_fields import Setting, Settings, section_types, settings_table
from schemas.toml_text import TomlText, parse_toml

__all__ = ["Settings", "SettingsError", "load"]

_PREFIX = "LASTCOOKIE_"
# Orchestrators set LASTCOOKIE_REDIS_PORT, …_SERVICE_HOST and the like for a service called lastcookie-redis.
_SERVICE_LINK = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_.*)?)")


class SettingsError(FileError):
    """The configuration cannot be used; `problems` holds all that is wrong with it."""


def load(path: Path, data_dir: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings; a missing file is all defaults. `data_dir` (--data-dir) wins over both.

    Relative paths in file and environment are relative to the file's folder, `data_dir` to the working
    directory; all come out absolute. Raises `SettingsError`.
    """
    try:
        text = parse_toml(path.read_text("utf-8") if path.exists() else "", str(path))
    except FileError as error:
        raise SettingsError(error.problems) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([Problem(str(path), None, "", f"cannot be read: {error}")]) from error
    settings = _read(text, environ, path.absolute().parent)
    if data_dir is not None:
        settings = replace(settings, data=replace(settings.data, dir=data_dir.absolute()))
    return settings


def variable(row: Setting) -> str:
    """The environment variable that overrides a setting."""
    return f"{_PREFIX}{row.section}_{row.key}".upper()


def _read(text: TomlText, environ: Mapping[str, str], folder: Path) -> Settings:
    problems = [*_unknown_keys(text), *_unknown_variables(environ)]
    values: dict[str, dict[str, object]] = {name: {} for name in section_types()}
    for row in settings_table():
        try:
            value = _value(row, text, environ)
        except ValueError as error:
            problems.append(_malformed(row, text, environ, str(error)))
        else:
            values[row.section][row.key] = folder / value if isinstance(value, Path) else value
    if not problems:
        settings = Settings(**{name: make(**values[name]) for name, make in section_types().items()})
        problems.extend(_contradictions(settings, text))
    if problems:
        raise SettingsError(problems)
    return settings


def _value(row: Setting, text: TomlText, environ: Mapping[str, str]) -> object:
    """The setting as the code uses it: from the environment, else the file, else its default."""
    written = environ.get(variable(row))
    if written is not None:
        return row.kind.read(row.kind.from_text(written))
    section = text.values.get(row.section)
    return row.kind.read(section.get(row.key, row.default) if isinstance(section, dict) else row.default)


def _malformed(row: Setting, text: TomlText, environ: Mapping[str, str], message: str) -> Problem:
    message = "malformed" if row.secret else message
    if variable(row) in environ:
        return Problem("environment", None, variable(row), message, row.kind.accepted)
    line = text.line((row.section, row.key))
    return Problem(text.file, line, f"{row.section}.{row.key}", message, row.kind.accepted)


def _unknown_keys(text: TomlText) -> Iterator[Problem]:
    sections = section_types()
    for name, section in text.values.items():
        if name not in sections:
            message = f"unknown section{did_you_mean(name, sections)}"
            yield Problem(text.file, text.line((name,)), name, message, listed(sections))
        elif not isinstance(section, dict):
            yield Problem(text.file, text.line((name,)), name, "not a section", f"[{name}]")
        else:
            yield from _unknown_keys_in(name, section, text)


def _unknown_keys_in(name: str, section: Mapping[str, object], text: TomlText) -> Iterator[Problem]:
    known = [row.key for row in settings_table() if row.section == name]
    for key in section:
        if key not in known:
            message = f"unknown key{did_you_mean(key, known)}"
            yield Problem(text.file, text.line((name, key)), f"{name}.{key}", message, listed(known))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Variables of a section that exists can only be meant as settings; others are not ours to judge."""
    known = [variable(row) for row in settings_table()]
    sections = tuple(f"{_PREFIX}{name.upper()}_" for name in section_types())
    for name in environ:
        if name.startswith(sections) and name not in known and not _SERVICE_LINK.fullmatch(name):
            yield Problem("environment", None, name, f"unknown variable{did_you_mean(name, known)}")


def _contradictions(settings: Settings, text: TomlText) -> Iterator[Problem]:
    """Values that are right alone and wrong together."""
    server = settings.server
    if server.listen == server.admin_listen and server.listen.port != 0:
        line = text.line(("server", "admin_listen"))
        yield Problem(text.file, line, "server.admin_listen", "the same as server.listen")
    scheme, _, path = settings.clickhouse.dsn.partition("://")
    if scheme == "chdb" and (not path.startswith("/") or "?" in path or "#" in path):
        line = text.line(("clickhouse", "dsn"))
        message = "an embedded engine without a path of its own keeps everything in memory"
        yield Problem(text.file, line, "clickhouse.dsn", message, "chdb:///an/absolute/path, without parameters")
