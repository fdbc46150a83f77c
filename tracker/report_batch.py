"""Reports that are recorded at once: what is asked of the log server for them, what they make of its answer, what is
written, who is told. Pure but for the telling.

The part of conversions.py that waits for nothing, so that it can be compiled.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from schemas import keys
from schemas.logs import logger
from tracker.links import Links
from tracker.report_steps import State, Step, Taken, Visitor, Waiting, step

_FIELDS = 4
"""Of an entry of the stream, as claim.lua takes them."""

_SCRIPT_BYTES_MAX = 524_288
"""What goes to the script at once, give or take one report: 64 of them are 200 KB, but one with 500 items is 2 MB."""


class Asked:
    """What is asked for a batch: claims of orders, each once, and touches of visitors that this shard keeps."""

    def __init__(self, shard: int, batch: Sequence[Waiting]) -> None:
        self.orders = list(dict.fromkeys([waiting.key for waiting in batch]))
        here = [visitor for one in batch for visitor in one.visitors() if visitor not in one.elsewhere]
        self.visitors: list[Visitor] = list(dict.fromkeys(here))
        touches = [keys.touches(shard, program, visitor) for program, visitor in self.visitors]
        self.keys = [keys.ready(shard), keys.gap(shard), *self.orders, *touches]

    def known(self, found: Sequence[bytes | None]) -> tuple[dict[str, bytes], dict[Visitor, State]] | None:
        """The values of `keys` as claims, b"" for nothing, and states; None while nothing can be known yet."""
        ready, gap = found[0], found[1]
        if ready is None:
            return None
        behind = 2 + len(self.orders)
        claims = {order: claim or b"" for order, claim in zip(self.orders, found[2:behind], strict=True)}
        touches = zip(self.visitors, found[behind:], strict=True)
        return claims, {visitor: State.of(touch, gap, ready) for visitor, touch in touches}


class Steps:
    """What reports make of their claims, as many as go to the script at once; `refused` are those that cannot be taken,
    and why."""

    def __init__(self) -> None:
        self.made: list[Step] = []
        self.refused: list[tuple[Waiting, Exception]] = []

    @classmethod
    def of(
        cls,
        batch: Sequence[Waiting],
        claims: dict[str, bytes],
        states: Mapping[Visitor, State],
        read_at: int,
        links: Links,
        new_id: Callable[[], str],
    ) -> "Steps":
        """`claims` are changed with every step, for the next report of the same order."""
        steps = cls()
        size = 0
        for waiting in batch:
            try:
                made = step(waiting, claims[waiting.key], states, read_at, links, new_id())
            except Exception as error:  # whatever is wrong with one report, the others are recorded
                steps.refused.append((waiting, error))
                continue
            claims[waiting.key] = made.after
            steps.made.append(made)
            size += made.size
            if size > _SCRIPT_BYTES_MAX:
                break
        return steps


def written(shard: int, steps: Sequence[Step]) -> tuple[list[str], list[bytes]]:
    """Keys and arguments for claim.lua; the claims' keys are the third and on."""
    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    for made in steps:  # several may be of one order, each upon the one before
        before.setdefault(made.waiting.key, made.before)
        after[made.waiting.key] = made.after
    arguments = [b"\n".join([made.lines[at] for made in steps if made.lines[at]]) for at in range(_FIELDS)]
    for key, claim in before.items():
        arguments += [claim, after[key]]
    return [keys.conversions(shard), keys.ready(shard), *before], arguments


def tell_all(steps: Sequence[Step], counters: Counter[str]) -> None:
    """Everybody whose report has been recorded."""
    for made in steps:
        counters[f"reports:{made.waiting.report.source}:{made.taken[0]}"] += 1
        tell(made.waiting, made.taken)


def tell(waiting: Waiting, told: Taken | Exception) -> None:
    """One of them, or why his report has not been."""
    try:
        waiting.answer(told)
    except Exception as error:  # one answer that cannot be given must not cost the others theirs
        logger().error("report not answered", exc_info=error)
