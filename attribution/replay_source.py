"""Where a replay reads: everything that decisions of a period were made from, out of the tables, in their order.

`Source.lines` gives text, as the engine of ClickHouse wrote it: nothing is parsed here, so whoever holds the tables
can pass a million sales on beside its other work, and another process decides. First come the versions of entities,
then the decisions in order of `decision_seq`, gathered a slice at a time: memory is that of a slice. Called by the
private port and by tests; read by replay_evidence.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from attribution.queries import query
from schemas.durations import parse_duration
from schemas.terms import Terms, parse_versions
from schemas.what_if import changed

SLICE_ROWS = 100_000
_DAY_MS = 86_400_000
_EVER = (-(2**62), 2**62)
_END_OF_TIME_MS = 9_999_999_999_999


def session(memory: int, threads: int) -> dict[str, Any]:
    """Settings of the client: how lines are written, how many bytes it may use, and from where on the disk."""
    return {
        "output_format_json_quote_64bit_integers": 0,
        "output_format_json_quote_decimals": 1,
        "output_format_json_named_tuples_as_objects": 0,
        "query_plan_join_swap_table": "false",  # the clicks are never the side that is kept in memory
        "max_memory_usage": memory,
        "max_bytes_before_external_group_by": memory // 4,
        "max_bytes_before_external_sort": memory // 4,
        "max_threads": threads,
    }


class UnknownProgram(Exception):
    """The program is in no table; the message names those that are."""


@dataclass(frozen=True)
class Question:
    """What to replay: sales dated in [from_ms, to_ms), by what was received and decided up to `as_of`.

    `changes` are other values for keys of the terms, None to verify what was decided.
    """

    as_of: int
    program: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    changes: Mapping[str, Any] | None = None


@dataclass
class Needs:
    """What the terms ask for beyond the touches of a sale's own visitors."""

    programs: set[str] = field(default_factory=set)
    history: set[str] = field(default_factory=set)
    stages: set[str] = field(default_factory=set)
    identity: set[str] = field(default_factory=set)
    reach_ms: int = 0
    customer_ms: int = 0

    def take(self, line: Sequence[Any], changes: Mapping[str, Any]) -> None:
        """Note one version of an entity."""
        _, kind, id, data = line
        if kind == "program":
            self.programs.add(id)
            for terms in parse_versions(orjson.loads(data)["terms"]):
                self._take_terms(id, changed(terms, changes))
        elif kind == "membership":
            window = orjson.loads(data)["window"]
            self.reach_ms = max(self.reach_ms, parse_duration(window) if window else 0)

    def _take_terms(self, program: str, terms: Terms) -> None:
        self.reach_ms = max(self.reach_ms, terms.window, terms.view_window)
        self.customer_ms = max(self.customer_ms, terms.customer_window)
        if terms.repeat != "window":
            self.history.add(program)
        if terms.goals_judged == "first":
            self.stages.add(program)
        if terms.identity == "customer":
            self.identity.add(program)


class Source:
    """Reads for one question through one client, made with the settings of `session`."""

    def __init__(self, client: Any, question: Question, slice_rows: int = SLICE_ROWS) -> None:
        self._client = client
        self._question = question
        self._slice_rows = slice_rows
        self._needs = Needs()
        self._parameters: dict[str, Any] = {
            "as_of": question.as_of,
            "program": question.program or "",
            "from": _EVER[0] if question.from_ms is None else question.from_ms,
            "to": _EVER[1] if question.to_ms is None else question.to_ms,
        }

    def open(self) -> None:
        """See what the terms need. Raises UnknownProgram."""
        for block in self._blocks("replay_entities", as_of=_END_OF_TIME_MS):  # a program may be newer than `as_of`
            for line in block.splitlines():
                self._needs.take(orjson.loads(line), self._question.changes or {})
        several = {row[0] for row in self._client.query(query("replay_stages")).result_rows}
        self._needs.stages &= several & {self._question.program} if self._question.program else several
        known = self._needs.programs
        if self._question.program is not None and self._question.program not in known:
            names = ", ".join(sorted(known)[:50]) or "none yet"
            raise UnknownProgram(f"unknown program {self._question.program!r}; known are: {names}")

    def lines(self) -> Iterator[str]:
        """Lines of JSON, several in each text: objects say what follows, and the last one that all came."""
        count, until = self._client.query(query("replay_extent"), parameters=self._parameters).result_rows[0]
        yield _line(
            {
                "section": "entities",
                "decisions": count,
                "history": sorted(self._needs.history),
                "stages": sorted(self._needs.stages),
            }
        )
        yield from self._blocks("replay_entities")
        yield _line({"section": "decisions"})
        if count:
            yield from self._slices(until)
        yield _line({"section": "end"})

    def _slices(self, until: int) -> Iterator[str]:
        needs = self._needs
        history_from = self._parameters["from"] - max(needs.reach_ms, needs.customer_ms)
        common = {
            "history": sorted(needs.history),
            "history_from": max(_EVER[0], history_from),
            "identity": sorted(needs.identity),
            "stages": sorted(needs.stages),
        }
        after = 0
        while after < until:
            rows, last, oldest_ms, newest_ms = self._client.query(
                query("replay_slice"),
                parameters={**self._parameters, **common, "after": after, "until": until, "rows": self._slice_rows},
            ).result_rows[0]
            if not rows:
                return
            yield from self._blocks(
                "replay_decisions",
                **common,
                after=after,
                until=last,
                verify=self._question.changes is None,
                reach=needs.reach_ms,
                clicks_from=max(0, oldest_ms - needs.reach_ms - _DAY_MS),
                clicks_to=newest_ms,
            )
            after = last

    def _blocks(self, name: str, **more: Any) -> Iterator[str]:
        """The lines of an answer as they come, block by block."""
        with self._client.query_row_block_stream(query(name), parameters={**self._parameters, **more}) as blocks:
            for block in blocks:
                yield "".join(row[0] for row in block)


def _line(record: Mapping[str, Any]) -> str:
    return orjson.dumps(record).decode() + "\n"
