"""`lastcookie migrate`: the tables brought to this release's schema while nothing runs, or only looked at.

`lastcookie up` does the same at its start (migrate.py); alone it can be tried on a restored copy, and done before many
machines are started. Called by the command line.
"""

import json

import click

from console.commands import Instance, fail, instance_options, json_option, named_errors
from console.migrate import NewerSchema, migrate, pending


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Name the files that would be applied.")
@json_option
@instance_options
def upgrade(instance: Instance, dry_run: bool, as_json: bool) -> None:
    """Bring the tables to this release's schema; nothing may be running on them."""
    from console.offline import hold_tables  # with the client of the tables, which most commands do without

    settings = instance.settings
    with named_errors():
        tables = hold_tables(settings)
    if tables is None:
        fail(f"no tables that are free in {settings.data.dir}: stop `lastcookie up`, or name another folder")
    client, database = tables.client(), settings.clickhouse.database
    try:
        files = pending(client, database) if dry_run else migrate(client, database)
    except NewerSchema as error:
        fail(str(error))
    if as_json:
        click.echo(json.dumps({"applied": [] if dry_run else files, "pending": files if dry_run else []}))
    else:
        said = "would be applied" if dry_run else "applied"
        click.echo(f"{said}: {', '.join(files)}" if files else "the tables have this release's schema")
