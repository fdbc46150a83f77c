"""api.py: what is not seen from outside unless something of ours is broken."""

import asyncio
from typing import Any

import orjson

from schemas.settings import Settings
from tracker.api import Api
from tracker.conversions import NotRecorded
from tracker.report_fields import FieldError
from tracker.reports import Outcome


def test_a_defect_in_one_item_of_a_list_leaves_the_others_their_results() -> None:
    """They are recorded: an answer of 500 for all would have the merchant send everything again, for ever."""
    api = Api.__new__(Api)
    api._settings = Settings()
    fates: dict[str, Any] = {
        "good": (Outcome.ACCEPTED, "1"),
        "spoilt": ValueError("a claim that cannot be read"),
        "bad": FieldError(400, "amount_malformed", "…", "amount"),
        "later": NotRecorded("…"),
        "other": (Outcome.CONFLICT, "2"),
    }

    async def one(item: dict[str, Any]) -> tuple[str, str]:
        fate = fates[item["order_id"]]
        if isinstance(fate, Exception):
            raise fate
        return fate  # type: ignore[no-any-return]

    response = asyncio.run(api._each([{"order_id": name} for name in fates], one))
    assert response.status_code == 207
    results = orjson.loads(response.body)["results"]
    assert [result.get("http_status") for result in results] == [None, 500, 400, 503, 409]
    assert results[1]["error"]["code"] == "internal_error" and "claim" not in str(results[1])
