"""The goals of orders, for the worker: which programs have several, and what was decided on an order's others.

Most programs have one goal, and their sales ask nothing here. Where there are several the tables must be asked, after
they hold what the log holds; what is decided within a batch is remembered until it ends. The rule is stages.py.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from attribution.case import Case
from attribution.stages import Stage, Staged
from attribution.store import Store

Order = tuple[str, str]
"""Program and order id."""


class Goal(NamedTuple):
    """A goal of an order; `first_seq` is the position of its first decision, 0 where there is none yet."""

    first_seq: int
    stage: Stage


class Goals:
    """What one worker knows of goals."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of_program: dict[str, set[str]] = {}
        self._of_order: dict[Order, dict[str, Goal]] = {}

    def reload(self, unloaded: Iterable[tuple[str, str]]) -> None:
        """Begin anew; `unloaded` are program and goal of decisions that may be in no table yet."""
        self._of_program.clear()
        for program, goal in [*self._store.goals(), *unloaded]:
            self.note(program, goal)

    def note(self, program: str, goal: str) -> None:
        """This program has a sale of this goal. Two are enough to know: anybody can make goals up."""
        goals = self._of_program.setdefault(program, set())
        if len(goals) < 2:
            goals.add(goal)

    def are_several(self, program: str) -> bool:
        return len(self._of_program.get(program, ())) > 1

    def read(self, orders: Iterable[Order]) -> None:
        """What the tables know of these orders; forgets all others."""
        self._of_order.clear()
        for program, found in by_program(orders).items():
            for row in self._store.stages(program, found):
                order_id, goal, visitors, is_confirmed, is_reversed, first_seq, *credit = row
                affiliate, click_id, method, is_disputed = credit
                stage = Stage(
                    goal, affiliate or None, click_id or None, method, frozenset(visitors), bool(is_confirmed),
                    bool(is_disputed), bool(is_reversed),
                )  # fmt: skip
                self._of_order.setdefault((program, order_id), {})[goal] = Goal(first_seq, stage)

    def before(self, case: Case) -> list[Stage]:
        """The other goals of the case's order that were decided before its own was first, in that order."""
        own = self.of(case)
        others = [
            one
            for goal, one in self._of_order.get(case.order, {}).items()
            if goal != case.sale.goal and one.first_seq and not 0 < own.first_seq < one.first_seq
        ]
        return [one.stage for one in sorted(others, key=lambda one: one.first_seq)]

    def of(self, case: Case) -> Goal:
        """The case's own."""
        goals: Mapping[str, Goal] = self._of_order.get(case.order, {})
        return goals.get(case.sale.goal) or Goal(0, Stage(case.sale.goal, None, None, "none"))

    def remember(self, case: Case, staged: Staged, decision_seq: int) -> None:
        """A decision that is in no table yet, for the rest of the batch."""
        own, credit = self.of(case), staged.credit
        stage = own.stage._replace(
            affiliate=credit.affiliate,
            click_id=credit.click_id,
            method=credit.method,
            is_disputed=staged.is_disputed,
        )
        goals = self._of_order.setdefault(case.order, {})
        goals[case.sale.goal] = Goal(own.first_seq or decision_seq, stage)


def by_program(orders: Iterable[Order]) -> dict[str, set[str]]:
    """Order ids by program."""
    found: dict[str, set[str]] = {}
    for program, order_id in orders:
        found.setdefault(program, set()).add(order_id)
    return found
