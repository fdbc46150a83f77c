"""Decide whether an analyst's SQL may run: one SELECT, over our tables, with functions that only compute.

The embedded engine has no users or grants, and `readonly` keeps no query from files or network. So its own
parser says what a query is (`EXPLAIN AST`, which evaluates nothing), and every node of that tree must be of a
kind, name a table, call a function that is on a list: what is unknown is refused (SECURITY.md, 4).

Some things are settled on the text before the engine sees it, as the tree hides them or comes too late:
- `;`: the embedded engine runs every statement of a text, also those behind an EXPLAIN;
- FORMAT, SETTINGS, INTO OUTFILE would belong to the EXPLAIN; `FROM clicks UUID '...'` hides its UUID;
- the tree does not print the names of WITH queries, so their scope is found here (`_with_names`).
Limits on time and memory are the engine's (`limits`). Called by the SQL endpoint and by the command line.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

from clickhouse_connect.driver.exceptions import DatabaseError

DATABASE = "lastcookie"
QUERY_BYTES_MAX = 64 * 1024
BRACKET_DEPTH_MAX = 60  # 40,000 open brackets took the engine's parser 4.7 s; it gives up near 100 subqueries
WITH_QUERIES_MAX = 32

NODE_KIND = re.compile(  # without ColumnsApplyTransformer: `* APPLY f` hides f
    "ArrayJoin|(Qualified)?Asterisk|(Qualified)?Columns(List|Regexp)Matcher|ColumnsExceptTransformer"
    "|ColumnsReplaceTransformer(::Replacement)?|ColumnsTransformerList|ExpressionList|Function|Identifier"
    "|InterpolateElement|WithElement|Literal|OrderByElement|SampleRatio|Select(IntersectExcept|WithUnion)?Query|Subquery"
    "|Table(Expression|Identifier|Join)|TablesInSelectQuery(Element)?|Window(Definition|ListElement)"
)
# Functions in lower case. To the right of these may stand the bare name of a table.
MEMBERSHIP = re.compile("(global)?(not)?(null)?in")
# The first argument of these may be the bare name of a function: arrayMap(file, ['/etc/passwd']) reads it.
HIGHER_ORDER = re.compile(
    "array(all|avg|bottomk|compact|count|cumsum(nonnegative)?|difference|exists|fill|filter|fold|map|max|min"
    "|topk|(first|last)(index|ornull)?|(partial)?(reverse)?sort|product|reverse(fill|split)|split|sum)"
    "|map(all|apply|exists|filter|(partial)?(reverse)?sort)"
)
# These read a type from a string: AggregateFunction there would take hostile bytes for a state in memory.
TYPED = re.compile("(accurate)?cast[a-z]*|dynamicelement|jsonextract(keysandvalues)?(caseinsensitive)?")
COMBINATOR = re.compile("(if|array|map|distinct|or(null|default)|state|merge|foreach|arg(min|max))$")

TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|--[^\n]*(?:\n|$)|/\*(?:(?!/\*|\*/).)*\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*')
    |(?P<quoted>"[^"'`\\()\n\r\t]+"|`[^"'`\\()\n\r\t]+`)
    |(?P<word>[A-Za-z0-9_]+)
    |(?P<operator>\|\||<=>|->|::|[!=<>]=|<>|/(?![/*])|[()\[\],.+\-*%=<>?:])""",
    re.VERBOSE | re.DOTALL,
)
UNIONS = ("UNION", "EXCEPT", "INTERSECT")
CLOSING = {")": "(", "]": "["}
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
LINE = re.compile(r"(?P<indent> *)(?P<kind>[A-Za-z:]+)(?P<rest>.*)")
REST = re.compile(r"( (?P<name>[^()]+?))?( \((column|alias) [^()]*\))*( \(children (?P<count>\d+)\))?")


class Refused(Exception):
    """The query may not run. `code` is stable, for machines; `message` tells the analyst what to change."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def check(query: str, explain_ast: Callable[[str], str], tables: frozenset[str]) -> None:
    """Raise Refused unless `query` is one harmless SELECT over `tables` (names without the database).

    `explain_ast` runs `EXPLAIN AST <query>`, adding no FORMAT, on a client with the settings of `limits`.
    """
    text = statement(query)
    tokens = _tokens(text)
    _check_clauses(tokens)
    known = tables | {f"{DATABASE}.{table}" for table in tables} | _with_names(tokens)
    try:
        tree = explain_ast(text)
    except DatabaseError as error:
        if error.code is None:
            raise  # not the engine's answer: the way to it failed
        code = "query_too_complex" if str(error.name).startswith("TOO_") else "query_malformed"
        raise Refused(code, str(error).partition("\n")[0][:500]) from error
    for node in _nodes(tree):
        _check_node(node, known)


def statement(query: str) -> str:
    """The text that is checked and must be run: `query` without the blanks and semicolons round it."""
    return query.strip(" \t\r\n;")


def limits(seconds: int, memory_bytes: int, threads: int, rows: int) -> dict[str, object]:
    """The session settings of the analysts' own client, to be set in this order: `readonly` locks the others.

    It cannot be taken back: no other client may get these. `max_*ast*` bound the analysis of a query, which
    max_execution_time and max_memory_usage do not; `limit` bounds a UNION, which max_result_rows does not.
    """
    return {
        "max_execution_time": seconds,
        "max_memory_usage": memory_bytes,
        "max_threads": threads,
        "max_result_rows": rows,
        "limit": rows + 1,
        "max_result_bytes": memory_bytes,
        "result_overflow_mode": "throw",
        "max_ast_elements": 10_000,
        "max_expanded_ast_elements": 10_000,
        "allow_ddl": 0,
        "allow_introspection_functions": 0,
        "readonly": 1,
    }


@dataclass(slots=True)
class _Token:
    text: str  # without quotes, if it is a quoted identifier
    upper: str  # with them: a quoted word is no keyword
    is_name: bool
    group: int = -1  # position of the bracket it stands in, -1: none
    partner: int = -1  # of an opening bracket: position of the closing one


@dataclass(slots=True)
class _Node:
    kind: str
    name: str
    parent: "_Node | None"
    count: int
    children: "list[_Node]" = field(default_factory=list)


def _tokens(text: str) -> list[_Token]:
    """The query in the engine's words. What the engine might read in another way than we do is refused."""
    if len(text.encode("utf-8", "surrogatepass")) > QUERY_BYTES_MAX:
        raise Refused("query_too_large", f"a query may have {QUERY_BYTES_MAX} bytes")
    if ";" in text:
        raise Refused("several_statements", r"one statement only; in a string write \x3b for a semicolon")
    if odd := CONTROL.search(text):
        raise Refused("character_refused", f"character {odd.group()!r} is not allowed")
    tokens: list[_Token] = []
    opened: list[int] = []
    position, adjacent = 0, False
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None or (adjacent and text[position] in "'\"`"):  # x'27' has rules of its own
            raise Refused("character_refused", f"cannot read the query at {text[position : position + 20]!r}")
        kind = str(match.lastgroup)
        position, adjacent = match.end(), kind in ("string", "quoted", "word")
        if kind != "space":
            _append(tokens, opened, kind, match.group())
    if opened or not tokens:
        raise Refused("query_malformed", "a bracket is not closed" if opened else "there is no query")
    return [*tokens, _Token("", "", False)]


def _append(tokens: list[_Token], opened: list[int], kind: str, text: str) -> None:
    token = _Token(text[1:-1] if kind == "quoted" else text, text.upper(), kind in ("word", "quoted"))
    if text in CLOSING:
        if not opened or tokens[opened[-1]].text != CLOSING[text]:
            raise Refused("query_malformed", "a bracket is closed that was not opened")
        tokens[opened.pop()].partner = len(tokens)
    token.group = opened[-1] if opened else -1
    if text in CLOSING.values():
        opened.append(len(tokens))
        if len(opened) > BRACKET_DEPTH_MAX:
            raise Refused("query_too_complex", f"brackets may be nested {BRACKET_DEPTH_MAX} deep")
    tokens.append(token)


def _check_clauses(tokens: list[_Token]) -> None:
    if tokens[0].upper not in ("SELECT", "WITH", "("):
        raise Refused("not_a_select", "a query begins with SELECT or WITH")
    for token, following in pairwise(tokens):
        if token.upper in ("SETTINGS", "OUTFILE") or (token.upper == "FORMAT" and following.text != "("):
            raise Refused("clause_refused", f"{token.upper} is not allowed; quote a column of that name")
        if token.upper == "UUID" and following.text.startswith("'"):
            raise Refused("clause_refused", "a table cannot be named by its UUID")
        if token.upper == "WITH" and following.upper == "RECURSIVE":
            raise Refused("clause_refused", "WITH RECURSIVE is not allowed; numbers(n) makes a series")


def _with_names(tokens: list[_Token]) -> set[str]:
    """Names of WITH queries that mean no table of the database wherever the query mentions them."""
    found: list[tuple[int, int]] = []
    for start, token in enumerate(tokens):
        if token.upper == "WITH" and start == token.group + 1:
            end = _scope_end(tokens, start)
            found.extend((position, end) for position in _with_queries(tokens, start, end))
    if len(found) > WITH_QUERIES_MAX:
        raise Refused("query_too_complex", f"WITH may define {WITH_QUERIES_MAX} queries")
    return {tokens[position].text for position, end in found if _stays_inside(tokens, position, end)}


def _scope_end(tokens: list[_Token], start: int) -> int:
    """Where the names of a WITH that opens a (sub)query mean real tables again (tried on engine 26.9).

    Branches after UNION, EXCEPT, INTERSECT see them too, unless they have a WITH of their own.
    """
    group = tokens[start].group
    end = len(tokens) if group < 0 else tokens[group].partner
    joints = (at for at in range(start, end) if tokens[at].group == group and tokens[at].upper in UNIONS)
    first = next(joints, end)
    return first if any(token.upper == "WITH" for token in tokens[first:end]) else end


def _with_queries(tokens: list[_Token], start: int, end: int) -> Iterator[int]:
    """Where the list after WITH defines a name as a query."""
    for position in range(start + 1, end):
        if tokens[position].group != tokens[start].group:
            continue
        if tokens[position].upper == "SELECT":
            return
        if tokens[position - 1].upper in ("WITH", ",") and _body(tokens, position):
            yield position


def _body(tokens: list[_Token], position: int) -> int:
    """Where the body begins, if a name is defined as a query at `position`; else 0."""
    following = [token.upper for token in tokens[position + 1 : position + 4]]
    if not tokens[position].is_name or following[:1] != ["AS"] or "(" not in following:
        return 0
    return position + 1 + following.index("(") if following[1] in ("(", "MATERIALIZED") else 0


def _stays_inside(tokens: list[_Token], defined: int, end: int) -> bool:
    """Whether the name stands only where it means the WITH query: after its body, inside its scope."""
    body_end = tokens[_body(tokens, defined)].partner
    name = tokens[defined].text
    for at in (at for at, token in enumerate(tokens) if token.is_name and token.text == name):
        if at == defined or tokens[at - 1].upper in ("AS", "."):  # an alias, a column
            continue
        if tokens[at + 1].text == "(" or _body(tokens, at) or not body_end < at < end:
            return False
    return True


def _nodes(tree: str) -> list[_Node]:
    """The printed tree as nodes, parents first; its indentation and the counts that it gives must agree."""
    nodes: list[_Node] = []
    path: list[_Node] = []
    for line in filter(str.strip, tree.split("\n")):
        match = LINE.fullmatch(line)
        if match is None or not NODE_KIND.fullmatch(match["kind"]):
            raise Refused("node_refused", f"the query has a part that is not allowed: {line.strip()[:80]}")
        depth, literal = len(match["indent"]), match["kind"] == "Literal"
        rest = REST.fullmatch("" if literal else match["rest"])
        if rest is None or depth > len(path) or (depth == 0 and nodes):
            raise Refused("node_refused", f"the engine's answer cannot be read: {line.strip()[:80]}")
        name = match["rest"] if literal else rest["name"] or ""
        node = _Node(match["kind"], name, path[depth - 1] if depth else None, int(rest["count"] or 0))
        if node.parent:
            node.parent.children.append(node)
        path[depth:] = [node]
        nodes.append(node)
    if not nodes or nodes[0].kind != "SelectWithUnionQuery" or any(n.count != len(n.children) for n in nodes):
        raise Refused("node_refused", "the engine's answer is not the tree of one SELECT")
    return nodes


def _check_node(node: _Node, known: frozenset[str]) -> None:
    if node.kind == "SelectWithUnionQuery" and node.count != 1:
        raise Refused("clause_refused", "a query may not end in FORMAT, SETTINGS or INTO OUTFILE")
    if node.kind == "TableIdentifier" and node.name not in known:
        raise Refused("table_refused", f"no table {node.name!r} here, nor a WITH query whose scope this is")
    if node.kind == "Literal" and "aggregatefunction" in node.name.lower():
        raise Refused("type_refused", "states of aggregate functions cannot be made from other values")
    if node.kind == "Function":
        _check_function(node, known)


def _check_function(node: _Node, known: frozenset[str]) -> None:
    name = node.name.lower()
    arguments = node.children[0].children if node.children else []
    if node.parent and node.parent.kind == "TableExpression":
        if name != "numbers" or any(argument.kind != "Literal" for argument in arguments):
            raise Refused("table_function_refused", f"table function {node.name!r} is not allowed here")
        return
    if not _is_allowed(name):
        raise Refused("function_refused", f"function {node.name!r} is not allowed")
    unknown = [a.name for a in arguments[1:] if a.kind == "Identifier" and a.name not in known]
    if unknown and MEMBERSHIP.fullmatch(name):
        raise Refused("table_refused", f"no table {unknown[0]!r} for IN; for an array write has(array, x)")
    if HIGHER_ORDER.fullmatch(name) and len(arguments) > 1 and arguments[0].kind == "Identifier":
        raise Refused("function_refused", f"{node.name}: write a function as x -> f(x), not by its name")
    if TYPED.fullmatch(name) and any(argument.kind != "Literal" for argument in arguments[1:]):
        raise Refused("type_refused", f"{node.name}: what follows the first argument must be literals")


def _is_allowed(name: str) -> bool:
    """Whether a lower-case name is on the list, bare or with combinators (sumIf, uniqStateOrNull)."""
    bases = accumulate(range(4), lambda base, _: COMBINATOR.sub("", base), initial=name)
    return any(base in _allowed_functions() for base in bases)


@cache
def _allowed_functions() -> frozenset[str]:
    return frozenset(Path(__file__).with_name("sql_functions.txt").read_text("utf-8").lower().split())
