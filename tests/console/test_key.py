"""Making signing keys: by the newest of the installation's secrets, and never by one that no tracker has."""

from pathlib import Path

import pytest

from console.client import Refusal
from console.key import _installation_secret
from schemas.settings_fields import Data, Settings

OLD, NEW = bytes(48), bytes(range(48))


def secret_of(folder: Path, text: str | None) -> bytes:
    """By a key file with this text, or none."""
    if text is not None:
        (folder / "click-id.keys").write_text(text)
    return _installation_secret(Settings(data=Data(dir=folder)))


def test_the_newest_secret_makes_new_keys(tmp_path: Path) -> None:
    assert secret_of(tmp_path, f"2 {NEW.hex()}\n1 {OLD.hex()}\n") == NEW


def test_where_no_tracker_runs_no_signing_key_is_made_and_no_secret_either(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"click-id\.keys is missing: make signing keys where a tracker runs"):
        secret_of(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "1 00\n", f"1 {OLD.hex()}\nmore\n"])
def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(Refusal, match=r"click-id\.keys: expected lines"):
        secret_of(tmp_path, text)
