"""Fixtures for all tests: whole systems, and the real servers that parts are tested against."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import System

in_ci = bool(os.environ.get("CI"))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One running system with the demo program, shared by all tests: they use order ids of their own."""
    running = System(tmp_path_factory.mktemp("system")).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def start_system(tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Starts systems with settings of their own: `start_system(redis={"shards": 4})`; stopped after the test."""
    started: list[System] = []

    def start(environ: dict[str, str] | None = None, entities: str = "", **settings: dict[str, Any]) -> System:
        folder = tmp_path / f"system-{len(started)}"
        folder.mkdir()
        started.append(System(folder, settings, environ or {}, entities).start())
        return started[-1]

    yield start
    for running in started:
        if running.process is not None:
            running.stop()


@pytest.fixture(scope="session")
def api_key(system: System) -> str:
    return system.key("api")


@pytest.fixture(scope="session")
def postback_token(system: System) -> str:
    return system.key("postback")


def need(program: str) -> str:
    """The path of a program; without it the test is skipped, and in CI it fails."""
    path = shutil.which(program)
    if path is None:
        message = f"{program} is not installed (python -m tests.needs installs it)"
        pytest.fail(message) if in_ci else pytest.skip(message)
        raise AssertionError
    return path
