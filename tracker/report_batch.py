"""Reports that are recorded at once: what they make of their claims, what is written, what the answer means, who is
told. Pure but for the telling.

The part of conversions.py that waits for nothing, so that it can be compiled.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from schemas import keys
from schemas.logs import logger
from tracker.links import Links
from tracker.report_steps import LATEST, Step, Taken, Visitor, Waiting, step

_SCRIPT_BYTES_MAX = 524_288
"""What goes to the script at once, give or take one report: 64 of them are 100 KB, but one with 500 items is 2 MB. Of
touches it takes as many in."""


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
        newest: Mapping[Visitor, int],
        now: int,
        links: Links,
        new_id: Callable[[], str],
    ) -> "Steps":
        """An order that `claims` does not have is thought to be new: most are. With every step they are changed, for
        the next report of the same order."""
        steps = cls()
        size = 0
        for waiting in batch:
            try:
                made = step(waiting, claims.get(waiting.key, b""), newest, now, links, new_id())
            except Exception as error:  # whatever is wrong with one report, the others are recorded
                steps.refused.append((waiting, error))
                continue
            claims[waiting.key] = made.after
            steps.made.append(made)
            size += made.size
            if size > _SCRIPT_BYTES_MAX:
                break
        return steps


class Writing:
    """A call of claim.lua with these steps: its keys and arguments, and what its answer means."""

    def __init__(self, shard: int, steps: Sequence[Step]) -> None:
        numbers: dict[str, int] = {}
        self._before: list[bytes] = []
        after: dict[str, bytes] = {}
        latest: dict[Visitor, int] = {}
        of_lines: tuple[list[int], list[int], list[int]] = [], [], []
        for made in steps:  # several may be of one order, each upon the one before
            order = made.waiting.key
            number = numbers.get(order, 0)
            if not number:
                number = numbers[order] = len(numbers) + 1
                self._before.append(made.before)
            after[order] = made.after
            of_lines[0].append(number)
            if made.lines[1]:
                of_lines[1].append(number)
            if made.lines[3]:
                of_lines[2].append(number)
            for visitor in made.visitors:
                latest[visitor] = min(latest.get(visitor, LATEST), made.not_after)
        self._orders = list(numbers)
        self._visitors = list(latest)
        touches = [keys.touches(shard, program, visitor) for program, visitor in self._visitors]
        self.keys = [keys.conversions(shard), keys.ready(shard), keys.gap(shard), *self._orders, *touches]
        self.arguments = [b"%d" % len(numbers)]
        self.arguments += [b"\n".join([made.lines[at] for made in steps if made.lines[at]]) for at in range(4)]
        self.arguments.append("\n".join([f"{program} {visitor}" for program, visitor in self._visitors]).encode())
        self.arguments.append(b"".join([b"%013d" % ts for ts in latest.values()]))
        in_turn = list(range(1, len(numbers) + 1))
        for found in of_lines:
            self.arguments.append(b"" if found == in_turn else " ".join(map(str, found)).encode())
        self.arguments += after.values()
        if any(self._before):
            self.arguments += self._before

    def take_back(self, claims: dict[str, bytes]) -> None:
        """Nothing is recorded, and the claims may be what they were thought to be."""
        claims.update(zip(self._orders, self._before, strict=True))

    def not_recorded(
        self, answers: Sequence[bytes | int], claims: dict[str, bytes], newest: dict[Visitor, int]
    ) -> set[str]:
        """The claims of whose reports nothing has been recorded, by an answer that is a list: they are something else
        than was thought, or a touch is later than a sale. What they are, and when that touch was, is noted."""
        is_late = len(answers) > len(self._orders)
        found = set()
        for order, before, answer in zip(self._orders, self._before, answers, strict=False):
            if is_late or answer != 1:
                claims[order] = answer if isinstance(answer, bytes) else before
                found.add(order)
        for visitor, ts in zip(self._visitors, answers[len(self._orders) :], strict=False):
            if isinstance(ts, int) and ts:
                newest[visitor] = ts
        return found


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
