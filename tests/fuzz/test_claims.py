"""Claims: any number of reports of one order, in any order and again, against the plainest model of the rules."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.fuzz.budget import examples
from tracker.reports import Claim, Outcome, Report, decode_claim, encode_claim, merge

T0 = 1_767_225_600_000
WITHIN = 60_000
BROWSERS = ("pixel", "tag")

contents = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.sampled_from(["1.0000", "2.0000"]),
        "currency": st.just("EUR"),
        "coupon": st.sampled_from([["A"], ["a"], ["B"]]),
        "customer_id": st.sampled_from(["k1", "k2"]),
    },
)


class Claims(RuleBasedStateMachine):
    """The model keeps every report that was not a conflict, and asks them all each time."""

    def __init__(self) -> None:
        super().__init__()
        self.claim: Claim | None = None
        self.now = T0
        self.taken: list[Report] = []

    @rule(
        source=st.sampled_from(["pixel", "tag", "postback", "api", "import"]),
        content=contents,
        visitor=st.sampled_from([None, "ann", "ben"]),
        later=st.sampled_from([0, 1, 1000, WITHIN]),
    )
    def report(self, source: str, content: dict[str, Any], visitor: str | None, later: int) -> None:
        self.now += later
        one = Report("shoes", "1", "sale", source, self.now, self.now, content, visitor)
        before = self.claim
        self.claim, outcome = merge(before, one, WITHIN)
        assert outcome == self._expected(one)
        if outcome == Outcome.CONFLICT:
            assert self.claim is before
        else:
            self.taken.append(one)

    @rule()
    def retry(self) -> None:
        """What was taken once is a duplicate for ever, and says nothing new."""
        for one in self.taken[-3:]:
            again, outcome = merge(self.claim, one, WITHIN)
            assert outcome == Outcome.DUPLICATE and again.content == self.claim.content  # type: ignore[union-attr]

    @rule()
    def restart(self) -> None:
        if self.claim is not None:
            self.claim = decode_claim(encode_claim(self.claim))

    def _expected(self, one: Report) -> Outcome:
        alike = [known for known in self.taken if known.trust == one.trust]
        if not self.taken:
            return Outcome.ACCEPTED
        if not alike:
            return Outcome.MERGED
        contradicts = any(
            str(known.content[name]).upper() != str(value).upper()
            for known in alike
            for name, value in one.content.items()
            if name in known.content
        )
        return Outcome.CONFLICT if contradicts else Outcome.DUPLICATE

    @invariant()
    def what_counts_is_what_servers_say_first(self) -> None:
        if self.claim is None:
            return
        servers = [one for one in self.taken if one.source not in BROWSERS]
        counted = servers or self.taken
        said: dict[str, Any] = {}
        for one in counted:
            said = {**one.content, **said}
        assert self.claim.counted_content == said
        assert self.claim.is_confirmed == bool(servers)
        in_time = [one for one in self.taken if one.received_at - self.taken[0].received_at < WITHIN and one.visitor]
        named = [one for one in in_time if one in servers] or in_time
        assert self.claim.visitors() == list(dict.fromkeys(one.visitor for one in named))
        assert self.claim.first_received_at == self.taken[0].received_at


TestClaims = Claims.TestCase
TestClaims.settings = examples(60)
