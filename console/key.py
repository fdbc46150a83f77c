"""`lastcookie key HOLDER`: make a key, list a holder's, revoke one. Called by the command line and by the demo."""

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from console import embedded
from console.client import Refusal
from console.commands import Instance, instance_options, json_option, named_errors, print_table, tell_edge
from console.entities import publish, read_projection
from console.log_client import connect_redis
from schemas import api_keys
from schemas.entities import EntityEvent
from schemas.settings import Settings
from tracker.click_id import load_secrets


@click.command()
@click.argument("holder")
@click.option("--kind", type=click.Choice(list(api_keys.HOLDERS)), default="api", show_default=True)
@click.option("--address", "addresses", multiple=True, metavar="NETWORK", help="Opens from here alone; repeatable.")
@click.option("--list", "is_list", is_flag=True, help="Instead: show his keys, without their secrets.")
@click.option("--revoke", metavar="ID", help="Instead: make this key of his invalid. ID: --list shows it.")
@json_option
@instance_options
def key(
    instance: Instance,
    holder: str,
    kind: str,
    addresses: tuple[str, ...],
    is_list: bool,
    revoke: str | None,
    as_json: bool,
) -> None:
    """Make a key for HOLDER; it is shown this once, and kept as a hash.

    HOLDER is a merchant, or with --kind affiliate an affiliate, who can ask with it about his sales. With a key of
    --kind signing a merchant's server signs its reports.
    """
    if is_list + bool(addresses) + (revoke is not None) > 1:
        raise click.UsageError("one of --address, --list and --revoke at a time")
    try:
        networks = api_keys.networks_of(addresses)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--address") from None
    settings, role = instance.settings, api_keys.HOLDERS[kind]
    if is_list:
        with named_errors():
            _show(list_keys(settings, holder, role), as_json)
    elif revoke is not None:
        with named_errors():
            revoke_key(settings, holder, revoke, role)
        click.echo(json.dumps({"revoked": revoke}) if as_json else f"{revoke} is revoked")
    else:
        with named_errors():
            made = make_key(settings, holder, kind, networks)
        if as_json:
            shown = {"key": made.text, "id": made.id, role: holder, "kind": kind}
            click.echo(json.dumps({**shown, "addresses": networks} if networks else shown))
        else:
            click.echo(made.text)
            click.echo("Shown this once: only its hash is kept.", err=True)


def make_key(settings: Settings, holder: str, kind: str, addresses: Sequence[str] = ()) -> api_keys.NewKey:
    """Make a key and have every worker of this machine know it."""
    client = connect_redis(settings, embedded.url(settings))
    mark, records = read_projection(client)
    _check_holder(records, holder, api_keys.HOLDERS[kind])
    randomness = os.urandom(api_keys.RANDOM_BYTES)
    if kind == "signing":
        made = api_keys.make_signing_key(holder, _installation_secret(settings), randomness, _now(), addresses)
    else:
        made = api_keys.make_key(holder, kind, randomness, _now(), addresses)
    _publish_key(settings, client, made.record, mark)
    return made


def _installation_secret(settings: Settings) -> bytes:
    """The newest of the trackers' own. With one that is not theirs, they would know no signature."""
    path = settings.data.dir / "click-id.keys"
    if not path.exists():
        raise Refusal(f"{path} is missing: make signing keys where a tracker runs, with its --config and --data-dir")
    try:
        secrets = load_secrets(path, b"")
    except (OSError, ValueError) as error:
        raise Refusal(str(error)) from error
    return secrets[max(secrets)]


def list_keys(settings: Settings, holder: str, role: str) -> list[dict[str, Any]]:
    """The records of somebody's keys without their hashes, oldest first."""
    client = connect_redis(settings, embedded.url(settings))
    _, records = read_projection(client)
    client.close()
    _check_holder(records, holder, role)
    his = [record for (kind, _), record in records.items() if kind == "key" and record.get(role) == holder]
    shown = [{name: value for name, value in record.items() if name != "sha256"} for record in his]
    return sorted(shown, key=lambda record: (record["created_at"], record["id"]))


def _show(records: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(records))
        return
    table = Table("id", "kind", "status", "made", "addresses")
    for record in records:
        made = datetime.fromtimestamp(record["created_at"] / 1000, UTC).strftime("%Y-%m-%d")
        addresses = ", ".join(record.get("addresses") or ["any"])
        table.add_row(record["id"], record["kind"], record["status"], made, addresses)
    print_table(table)


def revoke_key(settings: Settings, holder: str, id: str, role: str = "merchant") -> None:
    """Make a key of a merchant's, or an affiliate's (`role`), invalid for ever, at every worker of this machine at
    once. A revoked key may be revoked again."""
    client = connect_redis(settings, embedded.url(settings))
    mark, records = read_projection(client)
    record = records.get(("key", id))
    if record is None or record.get(role) != holder:
        his = [r["id"] for (kind, _), r in records.items() if kind == "key" and r.get(role) == holder]
        hint = "" if role == "affiliate" else "; for an affiliate's key say --kind affiliate"
        raise Refusal(f"{role} {holder!r} has no key {id!r}; his are: {', '.join(sorted(his)) or 'none'}{hint}")
    _publish_key(settings, client, {**record, "status": "revoked"}, mark)


def _check_holder(records: Any, holder: str, role: str) -> None:
    if (role, holder) not in records:
        known = ", ".join(sorted(id for kind, id in records if kind == role)) or "none yet"
        raise Refusal(f"unknown {role} {holder!r}; known are: {known}")


def _publish_key(settings: Settings, client: Any, record: dict[str, Any], mark: str) -> None:
    event: EntityEvent = {"type": "key", "id": record["id"], "at": _now(), "data": record}
    position = publish(client, [event], mark)
    tell_edge(settings, position)
    client.close()


def _now() -> int:
    return time.time_ns() // 1_000_000
