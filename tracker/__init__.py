"""The public edge: it writes down what happened and answers, and decides nothing about money."""

from schemas.compiled import prefer

__path__ = prefer(__name__, __path__)
