"""The parameters of a query, and those that an affiliate's links carry for himself. Pure; part of the click path."""

from urllib.parse import unquote_to_bytes

SUB_IDS = ("sub1", "sub2", "sub3", "sub4", "sub5", "ref")
_SUB_ID_BYTES_MAX = 255
_PARAMETERS_MAX = 200
_PERCENT, _PLUS = b"%+"
"""As numbers: for `b"%" in text` Python raises and drops an exception inside, which takes eight times as long."""


def parse_query(query: bytes) -> dict[str, str]:
    """The parameters of a query, decoded; of several with one name the first. Never fails: bytes that are no UTF-8
    become U+FFFD, and what follows the 200th is left out."""
    parameters: dict[str, str] = {}
    if query.isascii() and _PERCENT not in query and _PLUS not in query:  # most are; each by itself takes twice as long
        for plain in query.decode().split("&", _PARAMETERS_MAX)[:_PARAMETERS_MAX]:
            known, _, said = plain.partition("=")
            parameters.setdefault(known, said)
        return parameters
    for piece in query.split(b"&", _PARAMETERS_MAX)[:_PARAMETERS_MAX]:
        name, _, value = piece.partition(b"=")
        parameters.setdefault(_decode(name), _decode(value))
    return parameters


def _decode(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("utf-8", "replace")


def sub_ids(parameters: dict[str, str]) -> dict[str, str]:
    """Those that are given, cut to 255 bytes; a character that the cut would split goes as a whole."""
    return {
        name: value.encode()[:_SUB_ID_BYTES_MAX].decode("utf-8", "ignore")
        for name in SUB_IDS
        if (value := parameters.get(name))
    }
