"""The catalog: terms, affiliates and coupons of a program as the rule wants them, out of the projection.

Built when first asked for and forgotten when the projection changes; an affiliate's standing is worked out when a
touch of his comes up, so a program may have any number of them. Called by the worker.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from attribution.credit import Affiliate, CouponOwner, coupon_key
from schemas.durations import parse_duration
from schemas.entities import active_in_program, banned_in_program, membership_id
from schemas.projection import Projection
from schemas.terms import Terms, parse_versions


class Standings(Mapping[str, Affiliate]):
    """Affiliates in one program, by id."""

    def __init__(self, projection: Projection, program: str) -> None:
        self._projection = projection
        self._program = program
        self._known: dict[str, Affiliate | None] = {}

    def __getitem__(self, affiliate: str) -> Affiliate:
        standing: Affiliate | None = self.get(affiliate)
        if standing is None:
            raise KeyError(affiliate)
        return standing

    def get(self, affiliate: str, default: Any = None) -> Any:
        """What `Mapping` says, which does it in three times the time; asked a dozen times a sale."""
        if affiliate not in self._known:
            self._known[affiliate] = self._build(affiliate)
        standing = self._known[affiliate]
        return default if standing is None else standing

    def __iter__(self) -> Iterator[str]:
        return (record["id"] for record in self._projection.all("affiliate"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _build(self, affiliate: str) -> Affiliate | None:
        record = self._projection.get("affiliate", affiliate)
        if record is None:
            return None
        member: Any = self._projection.get("membership", membership_id(self._program, affiliate))
        intervals, banned = active_in_program(record, member), banned_in_program(record, member)
        if member is not None and member["status"] == "removed":  # only its history counts
            member = None
        return Affiliate(
            active=tuple((start, end) for start, end in intervals),
            banned=banned,
            window=parse_duration(member["window"]) if member and member["window"] else None,
            customers=frozenset(member["customers"]) if member else frozenset(),
            visitors=frozenset(member["visitors"]) if member else frozenset(),
        )


class Catalog:
    """What the rule needs to know of each program."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self._terms: dict[str, tuple[Terms, ...]] = {}
        self._standings: dict[str, Standings] = {}
        self._gaps: dict[str, int] = {}
        self._coupons: dict[str, dict[str, tuple[CouponOwner, ...]]] | None = None

    def changed(self) -> None:
        """Forget what was worked out, after the projection has changed."""
        self._terms.clear()
        self._standings.clear()
        self._gaps.clear()
        self._coupons = None

    def terms(self, program: str) -> tuple[Terms, ...]:
        """All versions of a program's terms; a program that is not known has the defaults."""
        if program not in self._terms:
            record = self.projection.get("program", program)
            self._terms[program] = tuple(parse_versions(record["terms"] if record else None))
        return self._terms[program]

    def affiliates(self, program: str) -> Standings:
        if program not in self._standings:
            self._standings[program] = Standings(self.projection, program)
        return self._standings[program]

    def has_gap(self, program: str, sale_ts: int) -> bool:
        """Whether a sale of this time (ms) may ask for touches that their state was not kept for (windows.py)."""
        if program not in self._gaps:
            record = self.projection.get("program", program)
            self._gaps[program] = (record.get("gap_until") or 0) if record else 0
        return sale_ts < self._gaps[program]

    def coupons(self, program: str) -> dict[str, tuple[CouponOwner, ...]]:
        """Owners by code."""
        if self._coupons is None:
            self._coupons = {}
            for record in self.projection.all("coupon"):
                owners = tuple(CouponOwner(o["affiliate"], o["from"], o["to"]) for o in record["owners"])
                self._coupons.setdefault(record["program"], {})[coupon_key(record["code"])] = owners
        return self._coupons.get(program, {})
