"""What is known of the sales of one batch beside the sales themselves: touches, identities, credits.

The tables are asked once for all sales of a program, not once a sale: a question costs a millisecond or more, whatever
it asks for. What the batch itself decides is in no table yet and is remembered here until the next one begins. Which
sales need the tables is decided in worker.py, who gets them in credit.py.
"""

from collections.abc import Iterable, Mapping, Sequence

from attribution.case import Case
from attribution.catalog import Catalog
from attribution.credit import Credit, PastCredit, Touch, find_visitors
from attribution.store import Binding, CreditInForce, Store
from schemas.terms import Terms, terms_at

Key = tuple[str, str]
"""A program, and a visitor, customer or click id in it."""

SaleKey = tuple[str, str, str]
"""Program, order id and goal: one sale."""


class Known:
    """Begins anew with every batch."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._touches: dict[Key, list[Touch]] = {}
        self._bindings: dict[Key, list[Binding]] = {}
        self._in_force: dict[SaleKey, CreditInForce] = {}
        self._past: dict[SaleKey, PastCredit] = {}
        self._of_click: dict[Key, set[SaleKey]] = {}
        self._of_customer: dict[Key, set[SaleKey]] = {}

    def begin(self, cases: Iterable[Case]) -> None:
        """Forget the last batch, and ask the tables about these sales. They must hold all that the log held."""
        self._touches, self._bindings, self._in_force = {}, {}, {}
        self._past, self._of_click, self._of_customer = {}, {}, {}
        of_program: dict[str, list[Case]] = {}
        for case in cases:
            of_program.setdefault(case.program, []).append(case)
        for program, some in of_program.items():
            self._read_touches(program, some)
            self._read_credits(program, some)

    def _read_touches(self, program: str, cases: Sequence[Case]) -> None:
        customers = {
            case.sale.customer_id
            for case in cases
            if case.sale.customer_id is not None and self._terms(case).identity == "customer"
        }
        if customers:
            for binding in self._store.bindings(program, customers):
                self._bindings.setdefault((program, binding.customer_id), []).append(binding)
        visitors = {visitor for case in cases for visitor in self._visitors(case)}
        for touch in self._store.touches(program, visitors):
            self._touches.setdefault((program, touch.visitor), []).append(touch)

    def _read_credits(self, program: str, cases: Sequence[Case]) -> None:
        for sale, credit in self._store.credits_in_force(program, {case.order_id for case in cases}).items():
            self._in_force[program, *sale] = credit
        click_ids = {id for case in cases if self._terms(case).repeat == "once" for id in self._click_ids(case)}
        customers = {
            case.sale.customer_id
            for case in cases
            if case.sale.customer_id is not None and self._terms(case).repeat == "customer"
        }
        if click_ids or customers:
            for past in self._store.past_credits(program, customers, click_ids):
                self._note(program, past)

    def _note(self, program: str, credit: PastCredit) -> None:
        """The credit of its sale from now on."""
        key = program, credit.order_id, credit.goal
        self._past[key] = credit
        if credit.click_id is not None:
            self._of_click.setdefault((program, credit.click_id), set()).add(key)
        if credit.customer_id is not None:
            self._of_customer.setdefault((program, credit.customer_id), set()).add(key)

    def touches(self, case: Case) -> list[Touch]:
        """Every touch of the sale's visitors in its program that the tables have."""
        return [touch for visitor in self._visitors(case) for touch in self._touches.get((case.program, visitor), ())]

    def identities(self, case: Case) -> Mapping[str, set[str]]:
        """The visitors bound to the sale's customer by reports up to it."""
        customer = case.sale.customer_id
        if customer is None or self._terms(case).identity != "customer":
            return {}
        bindings = self._bindings.get((case.program, customer), ())
        return {customer: {binding.visitor for binding in bindings if binding.since <= case.sale.ts}}

    def credited(self, case: Case) -> list[PastCredit]:
        """Earlier credits that the rule may ask about: those in the tables, and those of this batch."""
        repeat = self._terms(case).repeat
        sales: set[SaleKey] = set()
        if repeat == "once":
            sales.update(*(self._of_click.get((case.program, id), ()) for id in self._click_ids(case)))
        elif repeat == "customer" and case.sale.customer_id is not None:
            sales = self._of_customer.get((case.program, case.sale.customer_id), set())
        return [self._past[sale] for sale in sales]

    def in_force(self, case: Case) -> CreditInForce | None:
        """The credit of this sale as it stands, None where it was not decided yet."""
        return self._in_force.get((case.program, case.order_id, case.sale.goal))

    def remember(self, case: Case, credit: Credit, in_force: CreditInForce) -> None:
        """A decision of this batch: the sale's credit from now on."""
        sale = case.sale
        self._in_force[case.program, case.order_id, sale.goal] = in_force
        past = PastCredit(
            case.order_id, sale.ts, sale.goal, credit.affiliate, credit.click_id, credit.method, sale.customer_id
        )
        self._note(case.program, past)

    def _terms(self, case: Case) -> Terms:
        return terms_at(self._catalog.terms(case.program), case.sale.ts)

    def _visitors(self, case: Case) -> set[str]:
        return find_visitors(case.sale, (), self._terms(case), self.identities(case))

    def _click_ids(self, case: Case) -> set[str]:
        return {touch.click_id for touch in self.touches(case)}
