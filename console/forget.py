"""`lastcookie forget`: have the engine forget a person, and show what was found and removed.

The work is forgets.py's, in the engine. Called by the command line.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from console.commands import Instance, fail, instance_options, json_option, named_errors


@click.command()
@click.option("--visitor", metavar="V", help="The value of his cookie, as `clicks.visitor` has it.")
@click.option("--customer", metavar="C", help="Or the merchant's own id of him, and every visitor he was seen as.")
@click.option("--program", metavar="P", help="Only what he did in this program; default all.")
@click.option("--dry-run", is_flag=True, help="Show what is there of him; change nothing.")
@json_option
@instance_options
def forget(
    instance: Instance,
    visitor: str | None,
    customer: str | None,
    program: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Leave no trace of a visitor or customer; credits, amounts and counts stay. Exit 1 where something is left."""
    if bool(visitor) == bool(customer):
        fail("say who: --visitor V or --customer C")
    person = {"visitor": visitor, "customer": customer, "program": program, "dry_run": dry_run}
    end: dict[str, Any] | None = None
    with named_errors():
        for line in instance.admin().forget(person):
            if line["section"] == "progress" and sys.stderr.isatty():
                click.echo(f"  {line['step']} …", err=True)
            end = line if line["section"] == "end" else None
    if end is None:
        fail("it was interrupted: run it again")
    del end["section"]
    is_done = not end["problem"] and not end["memberships"]
    if as_json:
        click.echo(json.dumps({**end, "complete": is_done and not dry_run}))
    else:
        click.echo("\n".join(_sentences(end)))
    sys.exit(0 if is_done else 1)


def _sentences(end: dict[str, Any]) -> Iterator[str]:
    yield ("there is: " if end["dry_run"] else "forgotten: ") + ", ".join(
        f"{count} {name}" for name, count in end["found"].items()
    )
    if end["problem"]:
        yield f"not complete: {end['problem']}"
    for name in end["memberships"]:
        yield f"left: the membership {name} names him as the affiliate's own; take him out with `lastcookie apply`"
