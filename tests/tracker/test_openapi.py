"""The OpenAPI document: it has what the edge has, by the same names and limits."""

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from schemas.settings import Settings, load
from tests.docs.test_docs import _edge_errors
from tests.system import System
from tracker.app import Worker
from tracker.click_id import ClickIds
from tracker.openapi import document
from tracker.openapi_schemas import REVERSAL_FIELDS, SALE_FIELDS
from tracker.report_fields import FieldError, canonical, read_program, read_reversal
from tracker.report_reader import read_report

DOCUMENT = document(Settings())
CLICKS = {"/c/{code}", "/a/{affiliate}/{program}", "/v/{code}.gif"}
"""Not Starlette's: server.py hands them to the redirect."""

NOW = 1_767_225_600_000


def test_every_route_is_in_the_document_and_the_other_way_round(tmp_path: Path) -> None:
    worker = Worker(load(tmp_path / "config.toml", tmp_path / "var", {}), "redis://127.0.0.1:1", 0, lambda: NOW)
    served = {
        re.sub(r":\w+}", "}", route.path): {method.lower() for method in route.methods or () if method != "HEAD"}
        for route in worker.api.app().routes
        if isinstance(route, Route)
    }
    described = {path: set(operations) for path, operations in DOCUMENT["paths"].items()}
    assert {path: methods for path, methods in described.items() if path not in CLICKS} == served
    assert {path: described[path] for path in CLICKS} == {path: {"get", "head"} for path in CLICKS}


def test_it_is_served_for_anybody(system: System) -> None:
    answer = system.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json["openapi"] == "3.1.0" and answer.json["servers"] == [{"url": system.edge_url}]
    assert answer.json["paths"] == DOCUMENT["paths"]


def test_it_has_every_error_of_the_edge() -> None:
    described = set()
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                described |= {(int(status), code) for code in _codes(answer)}
    assert described == set(_edge_errors())


def _codes(answer: dict[str, Any]) -> list[str]:
    of_json = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("allOf")
    codes: list[str] = of_json[1]["properties"]["error"]["properties"]["code"]["enum"] if of_json else []
    return codes


@pytest.mark.parametrize("name", SALE_FIELDS)
def test_what_a_sale_takes_is_named_by_the_readers_of_the_code(name: str) -> None:
    """A value of no use at all is refused under the very name and code that the document has."""
    codes = _codes(DOCUMENT["paths"]["/v1/conversions"]["post"]["responses"]["400"])
    with pytest.raises(FieldError) as caught:
        known, _ = canonical({"program": "p", "order_id": "1", name: {"no": "value"}})
        program = read_program(known["program"])
        read_report(known, program, "api", None, NOW, Settings().conversions, ClickIds({1: bytes(48)}))
    assert (caught.value.code in codes, caught.value.param) == (True, name)


def test_a_reversal_takes_what_the_document_says() -> None:
    properties = DOCUMENT["components"]["schemas"]["Reversal"]["properties"]
    assert set(properties) == set(REVERSAL_FIELDS)
    whole = {"program": "p", "order_id": 1, "goal": "sale", "reversal_id": 7, "items": [{"sku": "a"}], "reason": "x"}
    assert set(read_reversal(whole)) - {"content"} == set(REVERSAL_FIELDS) - {"amount", "items", "reason"}
    for name in REVERSAL_FIELDS:
        with pytest.raises(FieldError, match=name):
            read_reversal({**{k: v for k, v in whole.items() if k != "items" or name != "amount"}, name: {}})
