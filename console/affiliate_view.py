"""What an affiliate sees of a decision: what became of his own touches, and nothing of anybody else. Pure.

He is told whether the sale was credited to him, by what, when, and for each touch of his why it won or lost; of a sale
that was credited to him also the order's value and status, which his commission depends on. He is not told who else
took part, with what and how often, nor who bought, with which coupon, or what other goals the order has (but for one of
his that this one follows): `seen_by` looks at other people's touches for one thing only, whether the one that won is
his.

Called by explanations.py with what explain.py answers.
"""

from typing import Any

_METHODS = {
    "click": "by your click",
    "soft": "by your soft click, as no full click was eligible",
    "view": "by your ad that was seen, as no click was eligible",
    "coupon": "by your coupon on the order",
    "customer": "as the affiliate who brought this customer before",
}
_TOUCHES = {"click": "Your click", "soft": "Your soft click", "view": "Your ad that was seen"}
_WORDS = {
    "WON": "won the sale",
    "AFTER_SALE": "came after the sale",
    "OUT_OF_WINDOW": "had expired: it was older than the program's window",
    "BOT": "was made by a bot",
    "PREFETCH": "was fetched ahead by a browser or a link checker, not clicked",
    "DUPLICATE": "repeated the click just before it",
    "NO_CONSENT": "came without consent",
    "BLOCKED": "was no navigation by a person (embedded, too fast, or not by https)",
    "AFFILIATE_INACTIVE": "came while you were not active in the program",
    "AFFILIATE_BANNED": "does not count, as you were banned at the time of the sale",
    "SELF_REFERRAL": "is your own purchase, which this program does not pay for",
    "CONSUMED": "had already earned an order, or a later one had, and this program pays a click once",
    "LATE_CLICK": "came just before the order, and another affiliate had brought the reader earlier",
    "OUTRANKED": "gave way to one of a stronger kind",
    "NOT_LAST": "was followed by a later one",
    "NOT_FIRST": "was preceded by an earlier one, and this program pays the first",
    "CHANNEL": "gave way to a channel of the merchant's own",
    "COUPON": "gave way to the coupon on the order",
    "FIRST_GOAL": "gave way to the affiliate who was credited with the order's first goal",
}
_WORDS_BESIDE_A_WINNER = {
    "OUTRANKED": (
        "gave way to one of a stronger kind, also yours",
        "gave way to one of another affiliate's, of a stronger kind",
    ),
    "NOT_LAST": (
        "was followed by a later one of yours, which won",
        "was followed by a later one of another affiliate, which won",
    ),
    "NOT_FIRST": (
        "was preceded by an earlier one of yours, and this program pays the first",
        "was preceded by an earlier one of another affiliate, and this program pays the first",
    ),
    "COUPON": (
        "gave way to the coupon on the order, which is yours",
        "gave way to another affiliate's coupon on the order",
    ),
    "FIRST_GOAL": (
        "gave way to what won the order's first goal, also yours",
        "gave way to another affiliate, who was credited with the order's first goal",
    ),
}
"""Where it is known whose the winner is: if it is his, and if it is not."""


def seen_by(affiliate: str, answer: dict[str, Any]) -> dict[str, Any] | None:
    """The part of an explanation that concerns one affiliate; None where none does, or nothing is decided yet."""
    if not affiliate or answer["status"] != "decided":
        return None
    his = [candidate for candidate in answer["candidates"] if candidate["affiliate"] == affiliate]
    earlier = [version for version in answer["versions"] if version["affiliate"] == affiliate]
    is_credited = answer["affiliate"] == affiliate
    if not (his or earlier or is_credited):
        return None
    return {
        "program": answer["program"],
        "order_id": answer["order_id"],
        "goal": answer["goal"],
        "status": "decided",
        "affiliate": affiliate,
        "credited": is_credited,
        "method": answer["method"] if is_credited else None,
        "click_id": answer["click_id"] if is_credited else None,
        "follows": answer["follows"] or None if is_credited else None,
        "text": f"Credited to you, {_METHODS[answer['method']]}." if is_credited else "Not credited to you.",
        "sale": _sale(answer, is_credited),
        "touches": [
            {
                "click_id": touch["click_id"],
                "ts": touch["ts"],
                "kind": touch["kind"],
                "reason": touch["reason"],
                "text": f"{_TOUCHES[touch['kind']]} {_words(touch['reason'], affiliate, answer)}.",
            }
            for touch in sorted(his, key=lambda touch: (touch["ts"], touch["click_id"]))
        ],
        "decided_at": answer["decided_at"],
        "earlier_credits": [{"decided_at": one["decided_at"], "method": one["method"]} for one in earlier],
    }


def _sale(answer: dict[str, Any], is_credited: bool) -> dict[str, Any]:
    """The time of the sale, which reasons refer to; the rest to him who earns by it."""
    sale = answer["sale"]
    if not is_credited:
        return {"ts": sale["ts"]}
    return {name: sale[name] for name in ("ts", "amount", "currency", "status")} | {"disputed": answer["disputed"]}


def _words(reason: str, affiliate: str, answer: dict[str, Any]) -> str:
    winner = _winner(reason, answer) if reason in _WORDS_BESIDE_A_WINNER else None
    if winner is None:
        return _WORDS[reason]
    if_his, if_not = _WORDS_BESIDE_A_WINNER[reason]
    return if_his if winner == affiliate else if_not


def _winner(reason: str, answer: dict[str, Any]) -> str | None:
    """Whom a touch that could have earned lost to: the owner of the touch that won, or the one credited without."""
    if reason in ("COUPON", "FIRST_GOAL"):
        return answer["affiliate"] or None
    return next((one["affiliate"] for one in answer["candidates"] if one["reason"] == "WON"), None)
