"""A person's SQL: checked, limited, run in a client of its own. Called by the private port and by offline.py."""

from typing import Any

import orjson

from console import sql_guard
from console.client import Refusal
from console.tables import Tables
from schemas.settings import Settings

TABLES = frozenset(
    (
        *("clicks", "conversions", "credits", "reports", "refusals", "dead_letters"),
        *("programs", "affiliates", "links", "coupons", "terms"),
        *("conversion_versions", "credit_versions", "entity_versions", "entities"),
    )
)


def analyst_client(tables: Tables, settings: Settings) -> Any:
    """A client that keeps the limits of `[limits]` for good."""
    most = settings.limits
    limits = sql_guard.limits(most.sql_seconds, most.sql_memory, most.sql_threads, most.sql_rows)
    # In front: `readonly` comes last, behind it nothing can be set.
    return tables.client(
        **{"output_format_json_quote_decimals": 1, "output_format_json_quote_64bit_integers": 0, **limits}
    )


def ask(client: Any, query: str) -> dict[str, Any]:
    """Columns and rows of one SELECT. Raises Refusal."""
    try:
        sql_guard.check(query, lambda text: client.raw_query("EXPLAIN AST " + text).decode(), TABLES)
    except sql_guard.Refused as refused:
        raise Refusal(str(refused), refused.code) from refused
    try:
        answer = orjson.loads(client.raw_query(sql_guard.statement(query), fmt="JSON"))
    except Exception as error:
        raise Refusal(str(error)[:2000], "query_failed") from error
    return {"columns": [column["name"] for column in answer["meta"]], "rows": answer["data"]}
