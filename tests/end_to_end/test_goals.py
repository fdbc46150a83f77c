"""Several goals of one order, by the edge and as they are explained."""

from tests.system import System


def test_a_contract_goes_where_the_lead_went_and_the_explanation_says_so(system: System, api_key: str) -> None:
    """The lead by pixel, a click for somebody else, then the contract by the shop's server."""
    first, visitor = system.click("/c/boots")
    system.get("/pixel.gif?program=shoes&order_id=GOALS-1&goal=lead", Cookie=f"lc={visitor}")
    system.explain("shoes", "GOALS-1&goal=lead")
    second, _ = system.click("/c/sneakers", visitor)
    sale = {"program": "shoes", "order_id": "GOALS-1", "amount": "10.00", "currency": "EUR", "click_id": second}
    assert system.post_json("/v1/conversions", sale, api_key).status == 202
    explained = system.explain("shoes", "GOALS-1&goal=sale")
    assert (explained["affiliate"], explained["click_id"], explained["method"]) == ("alice", first, "click")
    assert (explained["follows"], explained["disputed"], explained["goals"]) == ("lead", False, ["lead", "sale"])
    reasons = {candidate["click_id"]: candidate["reason"] for candidate in explained["candidates"]}
    assert reasons == {first: "WON", second: "FIRST_GOAL"}
    told = system.run("explain", "shoes", "GOALS-1").stdout
    assert "Credited to alice, with the order's first goal (lead), which he has by the last click.\n" in told
    assert "WON: won the order's first goal\n" in told
    assert "FIRST_GOAL: gave way to what won the order's first goal\n" in told
    assert "Other goals of this order: lead.\n" in told
    (row,) = system.sql("SELECT affiliate, follows FROM credits WHERE order_id = 'GOALS-1' AND goal = 'sale'")
    assert row == {"affiliate": "alice", "follows": "lead"}
