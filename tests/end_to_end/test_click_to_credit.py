"""The main job: a click becomes a credited sale."""

from tests.system import System


def test_a_click_and_a_sale_give_the_sale_to_the_last_cookie(system: System) -> None:
    """A reader clicks alice's link, then bob's, and buys: bob is credited, alice is told why not."""
    first, visitor = system.click("/c/boots")
    second, same = system.click("/c/sneakers", visitor)
    assert same == visitor
    answer = system.get("/pixel.gif?program=shoes&order_id=main-1&amount=49.90&currency=EUR", Cookie=f"lc={visitor}")
    assert (answer.status, len(answer.body), answer.headers["cache-control"]) == (200, 43, "no-store")

    credit = system.explain("shoes", "main-1")
    assert (credit["affiliate"], credit["click_id"], credit["method"]) == ("bob", second, "click")
    assert [(c["click_id"], c["reason"]) for c in credit["candidates"]] == [
        (first, "NOT_LAST"),
        (second, "WON"),
    ]
    text = system.run("explain", "shoes", "main-1").stdout
    assert "Credited to bob" in text and "NOT_LAST" in text
