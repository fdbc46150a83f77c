"""Decides who earns a sale and what; its rules are pure functions of recorded events."""

from schemas.compiled import prefer

__path__ = prefer(__name__, __path__)
