"""The rule a second time, slow and sharing no code with the first; test_credit_properties.py compares them.

ATTRIBUTION.md, sections 1 to 6, as it reads: on raw cases, every question asked of all touches, nothing
sorted. It leaves out what the drawn cases never have: a scalar for a list, a version of terms without `from`.
"""

from typing import Any

UNIT_MS = {"s": 1000, "m": 60 * 1000, "h": 3600 * 1000, "d": 24 * 3600 * 1000}
TERMS_DEFAULTS = {
    "rule": "last_cookie",
    "window": "30d",
    "view_window": "0s",
    "late_click_guard": "0s",
    "coupon": "fallback",
    "repeat": "window",
    "customer_window": "365d",
    "identity": "visitor",
    "self_referral": "allow",
    "channels": [],
}


class SlowModel:
    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.sale = case["sale"]
        self.ts = self.sale["ts"]
        customer = self.sale.get("customer_id")
        self.visitors = list(self.sale.get("visitor", []))
        for one in case["touches"]:
            if one["click_id"] in self.sale.get("click_id", []) and one["program"] == self.sale["program"]:
                self.visitors.append(one["visitor"])
        if self.rule_at(self.ts, "identity") == "customer" and customer is not None:
            self.visitors += case.get("identities", {}).get(customer, [])
        self.candidates = [
            one for one in case["touches"] if one["program"] == self.sale["program"] and one["visitor"] in self.visitors
        ]

    def rule_at(self, at: int, key: str) -> Any:
        versions = self.case["terms"]
        past_starts = [version["from"] for version in versions if version["from"] <= at]
        start = max(past_starts) if past_starts else min(version["from"] for version in versions)
        (version,) = [version for version in versions if version["from"] == start]
        return version.get(key, TERMS_DEFAULTS[key])

    def length_at(self, at: int, key: str) -> int:
        written = self.rule_at(at, key)
        return int(written[:-1]) * UNIT_MS[written[-1]]

    def affiliate(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.case["affiliates"].get(name, {})
        return found

    def active(self, name: str, at: int) -> bool:
        intervals = self.affiliate(name).get("active")
        if intervals is None:
            return True
        return any((a is None or a <= at) and (b is None or at < b) for a, b in intervals)

    def banned(self, name: str) -> bool:
        since = self.affiliate(name).get("banned")
        return since is not None and bool(self.ts >= since)

    def own(self, name: str) -> bool:
        if self.rule_at(self.ts, "self_referral") != "reject":
            return False
        his = self.affiliate(name)
        is_customer = self.sale.get("customer_id") is not None and self.sale["customer_id"] in his.get("customers", [])
        return is_customer or any(visitor in his.get("visitors", []) for visitor in self.visitors)

    def earned(self, click_id: str) -> bool:
        return any(
            credit["affiliate"] is not None
            and credit["click_id"] == click_id
            and credit["goal"] == self.sale["goal"]
            and credit["order_id"] != self.sale["order_id"]
            and credit["ts"] <= self.ts
            for credit in self.case["credited"]
        )

    def later(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        if one["ts"] != other["ts"]:
            return bool(one["ts"] > other["ts"])
        return bool(one["click_id"].encode() > other["click_id"].encode())

    def passes_rows_1_to_7(self, one: dict[str, Any]) -> str | None:
        age = self.ts - one["ts"]
        if age < 0:
            return "AFTER_SALE"
        if one["kind"] == "view":
            window = self.length_at(one["ts"], "view_window")
        else:
            own = self.affiliate(one["affiliate"]).get("window")
            window = self.length_at(one["ts"], "window") if own is None else int(own[:-1]) * UNIT_MS[own[-1]]
        if not age < window:
            return "OUT_OF_WINDOW"
        for flag in ("bot", "prefetch", "duplicate", "no_consent", "blocked"):
            if flag in one["flags"]:
                return flag.upper()
        if not self.active(one["affiliate"], one["ts"]):
            return "AFFILIATE_INACTIVE"
        if self.banned(one["affiliate"]):
            return "AFFILIATE_BANNED"
        if self.own(one["affiliate"]):
            return "SELF_REFERRAL"
        if self.rule_at(self.ts, "repeat") == "once" and any(
            self.earned(other["click_id"]) and not self.later(one, other) for other in self.candidates
        ):
            return "CONSUMED"
        return None

    def ineligible(self, one: dict[str, Any]) -> str | None:
        reason = self.passes_rows_1_to_7(one)
        guard = self.length_at(self.ts, "late_click_guard")
        if reason is None and guard > 0 and one["kind"] == "click" and self.ts - one["ts"] < guard:
            for other in self.candidates:
                if (
                    other["affiliate"] != one["affiliate"]
                    and other["kind"] == "click"
                    and self.ts - other["ts"] >= guard
                    and self.passes_rows_1_to_7(other) is None
                ):
                    return "LATE_CLICK"
        return reason

    def beats(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        strength = {"click": 3, "soft": 2, "view": 1}
        if one["kind"] != other["kind"]:
            return strength[one["kind"]] > strength[other["kind"]]
        first = self.rule_at(self.ts, "rule") == "first_cookie"
        return self.later(other, one) if first else self.later(one, other)

    def best(self, touches: list[dict[str, Any]]) -> dict[str, Any] | None:
        for one in touches:
            if all(one is other or self.beats(one, other) for other in touches):
                return one
        return None

    def may_be_credited_now(self, name: str) -> bool:
        return self.active(name, self.ts) and not self.banned(name) and not self.own(name)

    def coupon_owner(self) -> str | None:
        for code in self.sale.get("coupon", []):
            for known, owners in self.case["coupons"].items():
                for owner in owners:
                    begun = owner.get("from") is None or owner["from"] <= self.ts
                    ended = owner.get("to") is not None and owner["to"] <= self.ts
                    is_owned = known.lower() == code.lower() and begun and not ended
                    if is_owned and self.may_be_credited_now(owner["affiliate"]):
                        return str(owner["affiliate"])
        return None

    def returning(self) -> str | None:
        latest: Any = None
        for credit in self.case["credited"]:
            if (
                self.sale.get("customer_id") is None
                or credit["customer_id"] != self.sale["customer_id"]
                or credit["affiliate"] is None
                or credit["method"] not in ("click", "soft", "view", "coupon")
                or credit["ts"] > self.ts
                or credit["order_id"] == self.sale["order_id"]
            ):
                continue
            if latest is None or self.place(credit) > self.place(latest):
                latest = credit
        if latest is None or self.ts - latest["ts"] >= self.length_at(self.ts, "customer_window"):
            return None
        return latest["affiliate"] if self.may_be_credited_now(latest["affiliate"]) else None

    def place(self, credit: dict[str, Any]) -> tuple[int, bytes, bytes, bytes]:
        click = b"" if credit["click_id"] is None else b"+" + credit["click_id"].encode()
        return credit["ts"], click, credit["order_id"].encode(), credit["goal"].encode()

    def decide(self) -> tuple[str | None, str | None, str, dict[str, str]]:
        reasons = {one["click_id"]: self.ineligible(one) for one in self.candidates}
        eligible = [one for one in self.candidates if reasons[one["click_id"]] is None]
        lost = {click_id: reason for click_id, reason in reasons.items() if reason is not None}

        def credit(
            name: str | None, method: str, won: dict[str, Any] | None, why: str, why_weaker: str
        ) -> tuple[str | None, str | None, str, dict[str, str]]:
            for one in eligible:
                weaker = won is not None and one["kind"] != won["kind"]
                lost[one["click_id"]] = "WON" if one is won else why_weaker if weaker else why
            return name, None if won is None else won["click_id"], method, lost

        if self.sale.get("channel") in self.rule_at(self.ts, "channels"):
            return credit(None, "none", None, "CHANNEL", "CHANNEL")
        owner, means = self.coupon_owner(), self.rule_at(self.ts, "coupon")
        his = [one for one in eligible if one["affiliate"] == owner]
        if owner is not None and (means == "override" or (means == "if_involved" and his)):
            return credit(owner, "coupon", self.best(his), "COUPON", "COUPON")
        winner = self.best(eligible)
        if winner is not None:
            first = self.rule_at(self.ts, "rule") == "first_cookie"
            return credit(
                winner["affiliate"], winner["kind"], winner, "NOT_FIRST" if first else "NOT_LAST", "OUTRANKED"
            )
        if owner is not None and means == "fallback":
            return credit(owner, "coupon", None, "", "")
        returning = self.returning() if self.rule_at(self.ts, "repeat") == "customer" else None
        if returning is not None:
            return credit(returning, "customer", None, "", "")
        return credit(None, "none", None, "", "")
