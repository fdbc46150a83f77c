"""The command line: every command of `lastcookie`, thin over what does the work.

Exit status: 0 yes or done, 1 the answer is no, 2 bad usage or input. `--json` is for machines.
"""

import json
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError
from rich.table import Table
from rich.text import Text

from console import embedded
from console.attribute import attribute
from console.backup import backup, restore
from console.commands import (
    Instance,
    environ,
    fail,
    instance_options,
    json_option,
    named_errors,
    print_table,
    printable,
    tell_edge,
)
from console.entities import (
    find_problems,
    plan_file,
    publish,
    read_entities,
    read_projection,
    read_snapshot,
)
from console.explain import sentences
from console.forget import forget
from console.import_conversions import import_conversions
from console.key import key, make_key, revoke_key
from console.log_client import connect_redis
from console.rebuild import rebuild_state
from console.replay import replay
from console.upgrade import upgrade
from schemas import keys
from schemas.entities import EntityKey
from schemas.problems import FileError, Problem
from schemas.settings import Settings, load
from schemas.version import ENGINE_VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ENGINE_VERSION, prog_name="lastcookie")
def main() -> None:
    """Click tracking and last-cookie attribution."""


main.add_command(attribute)
main.add_command(backup)
main.add_command(forget)
main.add_command(import_conversions)
main.add_command(key)
main.add_command(rebuild_state)
main.add_command(replay)
main.add_command(restore)
main.add_command(upgrade)


@main.command()
@json_option
@instance_options
def up(instance: Instance, as_json: bool) -> None:
    """Start what the settings name, embedded where they name nothing; SIGTERM and Ctrl-C drain and stop."""
    from console.up import StartFailed, Supervisor

    settings = instance.settings
    if settings.demo.entities is not None:
        with named_errors():
            read_entities(settings.demo.entities)

    def when_ready() -> None:
        if settings.demo.entities is not None and not _has_demo(settings):
            _apply(settings, settings.demo.entities, dry_run=False)
        _greet(settings)

    try:
        with named_errors():
            Supervisor(settings, instance.config.absolute(), lambda text: click.echo(text, err=True)).run(when_ready)
    except StartFailed as error:
        fail(str(error), 1)


def _has_demo(settings: Settings) -> bool:
    """Whether the demo program is there already: what people have changed of it since stays."""
    client = connect_redis(settings, embedded.url(settings))
    known = client.hexists(keys.PROJECTION, f"program:{_demo_program(settings)['id']}")
    client.close()
    return bool(known)


def _greet(settings: Settings) -> None:
    edge = settings.server.public_url
    admin = settings.server.admin_listen
    click.echo(f"\nlastcookie {ENGINE_VERSION} is running; state is kept in {settings.data.dir}\n")
    click.echo(f"  edge     {edge}")
    click.echo(f"  private  http://{admin.host}:{admin.port}/metrics  (also /healthz, /readyz)")
    if settings.demo.shop_listen:
        shop = f"http://shop.localhost:{settings.demo.shop_listen.port}/"
        click.echo(f"  shop     {shop}\n")
        click.echo(f"Click     {edge}/c/boots   buy there, then ask:")
        program = min(sys.argv[0], os.path.relpath(sys.argv[0]), key=len)
        click.echo(f"          {program} explain shoes ORDER   (or `make demo` for a whole play)")
    click.echo("Ctrl-C drains and stops.")


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change.")
@json_option
@instance_options
def apply(instance: Instance, file: Path, dry_run: bool, as_json: bool) -> None:
    """Create or change merchants, programs, affiliates, links, coupons as FILE says; idempotent."""
    with named_errors():
        plan = _apply(instance.settings, file, dry_run)
    if as_json:
        click.echo(json.dumps({"changes": list(plan.lines), "warnings": list(plan.warnings), "dry_run": dry_run}))
        return
    for line in plan.lines:
        click.echo(line)
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    if not plan.lines:
        click.echo("no changes")


def _apply(settings: Settings, file: Path, dry_run: bool) -> Any:
    client = connect_redis(settings, embedded.url(settings))
    plan, mark = plan_file(client, file, time.time_ns() // 1_000_000, settings.terms_defaults)
    if plan.events and not dry_run:
        position = publish(client, plan.events, mark)
        tell_edge(settings, position)
    client.close()
    return plan


def _now() -> int:
    return time.time_ns() // 1_000_000


@main.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Compare with what each case expects; exit 1 at any difference.")
@json_option
@instance_options
def decide(instance: Instance, files: tuple[str, ...], check: bool, as_json: bool) -> None:
    """The pure rules on test cases, one JSON object a line (- is standard input), with --json and without."""
    from attribution.cases import run

    sys.exit(run(files, check))


@main.command()
@click.argument("program")
@click.argument("order_id")
@click.option("--goal", help="Of several goals of one order, this one.")
@json_option
@instance_options
def explain(instance: Instance, program: str, order_id: str, goal: str | None, as_json: bool) -> None:
    """Why this sale went where it went."""
    with named_errors():
        answer = instance.tables().explain(program, order_id, goal)
    if answer is None:
        fail(f"no sale {order_id!r} has been reported in program {program!r}", 1)
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else "\n".join(sentences(answer)))


@main.command()
@click.argument("query")
@json_option
@instance_options
def sql(instance: Instance, query: str, as_json: bool) -> None:
    """Read-only SQL over the tables."""
    with named_errors():
        answer = instance.tables().sql(query)
    if as_json:
        click.echo(json.dumps(answer["rows"], ensure_ascii=False))
        return
    table = Table(*answer["columns"], show_lines=False)
    for row in answer["rows"]:
        table.add_row(*(Text(printable(row[column])) for column in answer["columns"]))
    print_table(table)


@main.command()
@json_option
@instance_options
def check(instance: Instance, as_json: bool) -> None:
    """Prove the invariants: served = stored + spooled, one credit a sale; exit 1 if not."""
    with named_errors():
        findings = instance.admin().check()
    if as_json:
        click.echo(json.dumps(findings, ensure_ascii=False))
    else:
        for finding in findings:
            click.echo(f"{'FAIL' if finding['broken'] else 'ok  '} {finding['name']} ({finding['counted']} looked at)")
            for line in finding["broken"]:
                click.echo(f"       {printable(line)}")
    sys.exit(1 if any(finding["broken"] for finding in findings) else 0)


@main.command("verify-config")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@json_option
@instance_options
def verify_config(instance: Instance, files: tuple[Path, ...], as_json: bool) -> None:
    """The settings, and FILES of entities: every error with file, line and the accepted values.

    FILES are held against the entities there are, one after the other, as `apply` would.
    """
    problems: list[Problem] = []
    records, defaults = None, Settings().terms_defaults
    try:
        settings = load(instance.config, instance.data_dir, environ())
        files = files or ((settings.demo.entities,) if settings.demo.entities else ())
        records, defaults = _known_entities(settings) if files else None, settings.terms_defaults
    except FileError as error:
        problems += error.problems
    problems += find_problems(files, records, _now(), defaults)
    if as_json:
        click.echo(json.dumps([vars(problem) for problem in problems]))
    else:
        click.echo("\n".join(map(str, problems)) or "no problems", err=bool(problems))
    sys.exit(2 if problems else 0)


def _known_entities(settings: Settings) -> dict[EntityKey, Any]:
    """What there is: by the log server where it answers, else by the snapshot; nothing where there is neither."""
    try:
        return read_projection(connect_redis(settings, embedded.url(settings)))[1]
    except (RedisError, OSError, ValueError):  # the last: a URL that has no port where one should be
        records = read_snapshot(settings.data.dir)
    if records is None:
        click.echo(f"no entities known in {settings.data.dir}: files are read as for a new system", err=True)
    return records or {}


@main.command()
@json_option
@instance_options
def demo(instance: Instance, as_json: bool) -> None:
    """Three readers, two affiliates and one shop, over real HTTP against the running system."""
    from console.demo import play, table

    settings = instance.settings
    if settings.demo.shop_listen is None:
        fail("the settings name no demo shop: [demo] shop_listen")
    program = _demo_program(settings)
    with named_errors():
        made = make_key(settings, program["merchant"], "postback")
        admin = instance.admin()
        rows = play(
            settings.server.public_url,
            f"http://shop.localhost:{settings.demo.shop_listen.port}",
            lambda name, order_id: admin.explain(name, order_id, None),
            made.text,
            os.urandom(4).hex(),
        )
        revoke_key(settings, program["merchant"], made.id)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows]))
    else:
        print_table(table(rows))


def _demo_program(settings: Settings) -> Any:
    assert settings.demo.entities is not None
    return tomllib.loads(settings.demo.entities.read_text("utf-8"))["program"][0]


if __name__ == "__main__":
    main()
