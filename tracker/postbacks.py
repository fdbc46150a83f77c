"""Postbacks: a merchant's server reports a sale as trackers know it, everything in the query or a form.

Where everything is in the query of a GET, as servers mostly send it, the report goes the short way: a tenth of the
work, without Starlette, task or future (docs/decisions/0012). Other ways are in api.py.
"""

from collections.abc import Callable
from typing import Any

import orjson

from schemas.logs import logger
from tracker.answers import defect, error_head, json_head, unavailable
from tracker.authorization import Door, Sender
from tracker.conversions import NotRecorded
from tracker.parameters import parse_query
from tracker.report_fields import FieldError, canonical
from tracker.report_reader import ReportReader, with_what_is_left_out
from tracker.report_steps import Answer, Taken
from tracker.reports import Outcome, Report
from tracker.short import ShortRequest

_HEAD_OF_TAKEN = json_head({}, 200)[0]
Take = Callable[[Report, dict[str, str], Answer], None]


class Postbacks:
    """Those of one worker; `take` records a report and tells its answer."""

    def __init__(self, door: Door, reader: ReportReader, take: Take) -> None:
        self._door = door
        self._reader = reader
        self._take = take

    def by_get(self, request: ShortRequest) -> None:
        """By the short way."""

        def answer(told: Taken | Exception) -> None:
            if isinstance(told, tuple) and told[0] != Outcome.CONFLICT:
                request.respond(_HEAD_OF_TAKEN, orjson.dumps({"status": told[0], "conversion_id": told[1]}))
            else:
                head, body = error_head(conflict() if isinstance(told, tuple) else refusal(told))
                request.respond(head, body)

        seen = request.seen
        query = seen.target.partition(b"#")[0].partition(b"?")[2]
        try:
            report, params = self.read(dict(parse_query(query)), Sender(request.peer, seen.forwarded_for))
        except Exception as error:
            answer(error)
        else:
            self._take(report, params, answer)

    def read(self, params: dict[str, Any], sender: Sender) -> tuple[Report, dict[str, str]]:
        """The report, and what of it is only kept. Raises FieldError."""
        token = params.pop("token", None)
        merchant = self._door.key_record(sender, token if isinstance(token, str) else "", "postback")["merchant"]
        known, unknown = canonical(params)
        report = self._reader.read(known, "postback", None, str(merchant))
        return report, with_what_is_left_out(unknown, known, report)


# Made anew each time: an exception that is raised again keeps the frames of all its tracebacks.
def conflict() -> FieldError:
    message = "this order was reported before with other content; both are kept and shown"
    return FieldError(409, "conversion_conflict", message, "order_id")


def refusal(error: Exception) -> FieldError:
    """What a report is told that was not taken; a defect of ours is logged. Starlette's handlers say the same."""
    if isinstance(error, FieldError):
        return error
    if isinstance(error, NotRecorded):
        return unavailable()
    logger().error("report failed", exc_info=error)
    return defect()
