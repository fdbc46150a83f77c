"""Files for `apply` and settings: any text is read, or every mistake named with its line."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from console.entities import CHECKS
from schemas.entity_file import EntityError, EntityFile, parse_file
from schemas.problems import FileError
from schemas.settings import Settings, load
from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged
from tests.system import ROOT

DEMO = (ROOT / "demo" / "entities.toml").read_bytes()
CONFIG = (ROOT / "config.toml").read_bytes()


@examples(150)
@given(damaged(DEMO, most=8))
def test_a_file_is_read_or_refused_by_line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        assert isinstance(parse_file(text, "f.toml", CHECKS), EntityFile)
    except EntityError as error:
        lines = text.count("\n") + 1
        assert error.problems and all(1 <= (p.line or 1) <= lines and p.message for p in error.problems)


@examples(50)
@given(damaged(CONFIG, most=8))
def test_settings_are_read_or_refused_by_line(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(data)
        try:
            assert isinstance(load(path, None, {}), Settings)
        except FileError as error:
            assert error.problems


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "a = " + "{b=" * 2000,
        "a = " + "9" * 5000,
        "[[merchant]]\nid = 0x" + "f" * 5000,
        "[" + "a." * 5000 + "a]",
        "merchant = [[]]",
        "merchant = 1",
        "[[merchant]]\nid = ''",
        "a = \0",
        "\ufeffa",
        "a\r",
    ],
)
def test_what_would_be_too_much_is_refused_too(text: str) -> None:
    with pytest.raises(EntityError) as refused:
        parse_file(text, "f.toml", CHECKS)
    assert all(problem.message for problem in refused.value.problems)
