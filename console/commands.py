"""What the commands of `lastcookie` share: which instance is meant, how they fail, how they print. Called by each."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from redis.exceptions import RedisError
from rich.console import Console

from console.client import AdminClient, NotRunning, Refusal
from console.embedded import NotOurs
from console.entities import ChangedMeanwhile, wait_for_edge
from schemas.problems import FileError
from schemas.settings import Settings, load

if TYPE_CHECKING:
    from console.offline import Offline


_EDGE_SECONDS = 5.0


class Instance:
    """The instance that a command means: its settings, and the file they came from."""

    def __init__(self, config: Path | None, data_dir: Path | None) -> None:
        self.config = config or Path("config.toml")
        self.data_dir = data_dir
        if config is not None and not config.exists():
            fail(f"{config}: no such file")

    @property
    def settings(self) -> Settings:
        with named_errors():
            return load(self.config, self.data_dir, environ())

    def admin(self) -> AdminClient:
        return AdminClient(self.settings)

    def tables(self) -> "AdminClient | Offline":
        """Who answers questions about the tables: the running system, or the tables themselves where it is stopped."""
        from console.offline import open_offline

        admin = self.admin()
        return admin if admin.answers() else open_offline(self.settings) or admin


def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "LASTCOOKIE_LOG_URL"}


def fail(message: str, status: int = 2) -> NoReturn:
    """End with a message on standard error."""
    click.echo(f"lastcookie: {message}", err=True)
    sys.exit(status)


@contextmanager
def named_errors() -> Iterator[None]:
    """Expected failures as one message and exit status 2."""
    try:
        yield
    except FileError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except (NotRunning, Refusal, ChangedMeanwhile, NotOurs) as error:
        fail(str(error) or type(error).__name__)
    except (RedisError, OSError) as error:
        fail(f"the log server cannot be reached ({error}); is `lastcookie up` running?")


def instance_options(command: Any) -> Any:
    """--config and --data-dir, as one argument `instance`."""

    @click.option("--config", type=click.Path(path_type=Path), help="Settings; default config.toml here.")
    @click.option("--data-dir", type=click.Path(path_type=Path), help="Wins over data.dir of the settings.")
    def wrapped(config: Path | None, data_dir: Path | None, **options: Any) -> Any:
        return command(instance=Instance(config, data_dir), **options)

    wrapped.__name__ = command.__name__
    wrapped.__doc__ = command.__doc__
    wrapped.__click_params__ = [*getattr(command, "__click_params__", []), *wrapped.__click_params__]  # type: ignore[attr-defined]
    return wrapped


def tell_edge(settings: Settings, position: int) -> None:
    """Wait until every worker of this machine serves it."""
    if not wait_for_edge(settings.data.dir / "run", position, _EDGE_SECONDS):
        click.echo(f"warning: recorded, but not every tracker serves it after {_EDGE_SECONDS:.0f} s", err=True)


json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")


@contextmanager
def opened(output: Path | None) -> Iterator[Any]:
    """Where to write, opened before the work begins; a file gets its name when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    is_special = output.exists() and not output.is_file()
    target = output if is_special else output.with_name(f".{output.name}.part")
    try:
        file = target.open("wb")
    except OSError as error:
        fail(f"{output}: {error.strerror or error}")
    try:
        with file:
            yield file
    except BaseException:
        if not is_special:
            target.unlink()
        raise
    if not is_special:
        target.replace(output)


def print_table(table: Any) -> None:
    """Fitted to a terminal; in a pipe nothing is cut."""
    console = Console() if sys.stdout.isatty() else Console(width=1000)
    console.print(table)


def printable(value: Any) -> str:
    """A value as a person's terminal may show it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
