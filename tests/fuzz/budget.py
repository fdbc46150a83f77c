"""How much a fuzz target tries: little and always the same in `make test`, new things for as long as you like in
`make fuzz`."""

import os

from hypothesis import HealthCheck, settings

TIMES_MORE = int(os.environ.get("FUZZ_TIMES", "0"))
"""0 in the tests; `make fuzz` sets it."""


def examples(count: int) -> settings:
    """So many examples in the tests."""
    return settings(
        max_examples=count * max(1, TIMES_MORE),
        derandomize=not TIMES_MORE,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
