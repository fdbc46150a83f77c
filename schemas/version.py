"""The engine's version: stored with every decision, so that a later engine can say which rule decided."""

ENGINE_VERSION = "0.2.0"

JUDGED_ALONE = frozenset(("0.1.0",))
"""Engines that judged every goal of an order by itself, whatever the terms say of `goals_judged`."""
