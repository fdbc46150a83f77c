"""What tracker, attribution and console agree on; imports nothing else of ours."""

from schemas.compiled import prefer

__path__ = prefer(__name__, __path__)
