"""What /metrics shows of decisions, as Prometheus reads it."""

from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from console.metrics import Metrics


class NoLog:
    """A log server that is away: what is known without it is shown all the same."""

    def __getattr__(self, name: str) -> object:
        raise ConnectionError(name)


def of_decisions(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    """Samples by name, method and upper bound."""
    return {
        (sample.name, sample.labels["method"], sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if family.name == "lastcookie_credit_seconds"
    }


def test_how_long_decisions_took_is_counted_by_method_and_bound(tmp_path: Path) -> None:
    metrics = Metrics(NoLog(), 1, tmp_path, Counter())
    assert of_decisions(metrics) == {}
    for method, seconds in (("click", 0.01), ("click", 0.05), ("click", 0.3), ("click", 100.0), ("none", -0.2)):
        metrics.decided(method, seconds)
    shown = of_decisions(metrics)
    name = "lastcookie_credit_seconds"
    of_click = [shown[f"{name}_bucket", "click", bound] for bound in ("0.05", "0.1", "0.5", "1.0", "60.0", "+Inf")]
    assert of_click == [2, 2, 3, 3, 3, 4]  # a bound is of its bucket; each counts those below it too
    assert (shown[f"{name}_count", "click", ""], round(shown[f"{name}_sum", "click", ""], 2)) == (4, 100.36)
    assert shown[f"{name}_bucket", "none", "0.05"] == shown[f"{name}_count", "none", ""] == 1
    assert shown[f"{name}_sum", "none", ""] == 0  # clocks of two machines may differ
