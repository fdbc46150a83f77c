"""The mark that stands where something about a person stood before he was forgotten.

No id of ours can be it: visitors have 11 characters, click ids 32. A sale whose visitor is the mark is not decided
again: what it was decided from is gone, and the credit stays. Put there by console/forget_tables.py.
"""

FORGOTTEN = "forgotten"
