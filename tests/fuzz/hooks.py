"""For schemathesis: half of the sales that it makes up are of a program that there is."""

from typing import Any
from zlib import crc32

import schemathesis

PROGRAM = "0"
"""As schemathesis itself calls the simplest."""


def _of_ours(params: Any) -> Any:
    if isinstance(params, list):
        return [_of_ours(item) for item in params]
    if isinstance(params, dict) and isinstance(program := params.get("program"), str) and program:
        is_chosen = crc32(repr(sorted(params.items(), key=str)).encode("utf-8", "replace")) % 2
        return {**params, "program": PROGRAM} if is_chosen else params
    return params


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    return _of_ours(query)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    return _of_ours(body)


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    return _of_ours(path_parameters)
