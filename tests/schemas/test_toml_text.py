"""TOML with line numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.problems import FileError
from schemas.toml_text import parse_toml

TEXT = '''# a comment with "quotes" and [brackets]
title = "x # not a comment" # a comment

[a.b]   # comment
c = 1
"quoted.key".'it' = 2
long = """
d = 'not a key'
[[not.a.table]] \\""" still
""""
array = [ # comment with ]
  "]", '[',
  { e = "}" },
]
after = \'\'\'
f = 1
\'\'\'

[[item]]
id = "one"
  [item.sub]
  x = 1
  [[item.part]]
  y = 1
  [[item.part]]
  y = 2
[[item]]
id = "two"
[[item.part]]
y = 3'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a", "b"), 4),
        (("a", "b", "c"), 5),
        (("a", "b", "quoted.key"), 6),
        (("a", "b", "quoted.key", "it"), 6),
        (("a", "b", "long"), 7),
        (("a", "b", "array"), 11),
        (("a", "b", "array", 2, "e"), 11),
        (("a", "b", "after"), 15),
        (("item", 0), 19),
        (("item", 0, "id"), 20),
        (("item", 0, "sub", "x"), 22),
        (("item", 0, "part", 0, "y"), 24),
        (("item", 0, "part", 1, "y"), 26),
        (("item", 1, "id"), 28),
        (("item", 1, "part", 0, "y"), 30),
        (("item", 1, "nothing"), 27),
        (("nothing",), None),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_key_is_found_at_its_line(path: tuple[str | int, ...], line: int | None, newline: str) -> None:
    assert parse_toml(TEXT.replace("\n", newline), "f").line(path) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ("a = 1\nb = [", 2), ("[x]\n[x]\n", 2)],
)
def test_text_that_is_not_toml_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(FileError) as caught:
        parse_toml(text, "f.toml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("f.toml", line)
    assert problem.message.startswith("not TOML: ")
    assert "(at " not in problem.message


values = st.sampled_from(['"a"', "1", "[1,\n2 # ]\n]", "'''\n[x]\n'''", "{ a = 1 }", '"\\"#"', '""', "''", '""""""'])
blanks = st.sampled_from(["", "\n", "# [comment]\n", "  "])


@given(st.lists(st.tuples(blanks, values), max_size=12))
def test_every_key_is_found_whatever_stands_before_it(statements: list[tuple[str, str]]) -> None:
    text, expected = "", {}
    for number, (blank, value) in enumerate(statements):
        text += blank
        expected[(f"k{number}",)] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    assert parse_toml(text, "f").lines == expected
