"""SQL by name: each query is a file of its own here, with server-side parameters."""

from functools import cache
from pathlib import Path


@cache
def query(name: str) -> str:
    """The text of `name`.sql."""
    return (Path(__file__).parent / f"{name}.sql").read_text("utf-8")
