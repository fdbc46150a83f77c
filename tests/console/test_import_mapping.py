"""The mapping of a file of sales: what it may say, and every mistake with its line."""

from zoneinfo import ZoneInfo

import pytest

from console.import_mapping import ImportMapping, read_mapping
from console.import_values import TimeFormat
from schemas.problems import FileError


def problems(text: str) -> list[str]:
    with pytest.raises(FileError) as caught:
        read_mapping(text, "m.toml")
    return [str(problem) for problem in caught.value.problems]


def test_an_empty_mapping_is_that_of_a_file_with_our_names() -> None:
    assert read_mapping("", "m.toml") == ImportMapping()


def test_a_mapping_says_everything_about_a_file() -> None:
    assert read_mapping(
        """
        delimiter = "\\t"
        encoding = "windows-1252"
        decimal_separator = ","
        thousands_separator = "."
        coupon_separator = "|"
        time_format = "%d.%m.%Y %H:%M"
        time_zone = "Europe/Berlin"
        ambiguous_time = "second"
        ignore = ["Kasse ", ""]
        [columns]
        "Bon-Nr." = "order_id"
        " Kunde" = "customer_id"
        [constants]
        currency = "EUR"
        goal = "lead"
        amount = "10.00"
        """,
        "m.toml",
    ) == ImportMapping(
        delimiter="\t",
        encoding="windows-1252",
        decimal_separator=",",
        thousands_separator=".",
        coupon_separator="|",
        time=TimeFormat("%d.%m.%Y %H:%M", ZoneInfo("Europe/Berlin"), "second"),
        ignore=frozenset({"Kasse", ""}),
        columns={"Bon-Nr.": "order_id", "Kunde": "customer_id"},
        constants={"currency": "EUR", "goal": "lead", "amount": "10.00"},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("delimeter = ';'", ("m.toml:1", "delimeter", 'did you mean "delimiter"')),
        ("delimiter = ';;'", ("delimiter",)),
        ("encoding = 'ebcdic'", ("encoding", "windows-1252")),
        ("thousands_separator = '.'", ("thousands_separator", "decimal_separator")),
        ("ignore = 'till'", ("ignore", "list")),
        ("time_format = '%d.%m.%Y'", ("time_format", "time_zone")),
        ("time_zone = 'Europe/Berlin'", ("time_zone", "time_format")),
        ("ambiguous_time = 'first'", ("ambiguous_time", "time_format")),
        ("time_format = '%d.%m.%Y'\ntime_zone = 'Europe/Berlln'", ("m.toml:2", "Europe/Berlin")),
        ("time_format = '%d.%m.%Y %z'\ntime_zone = 'Europe/Berlin'", ("time_zone", "%z")),
        ("time_format = '%d.%m.%Y'\ntime_zone = '../passwd'", ("unknown time zone",)),
        ("time_format = '%H:%M %z'", ("time_format", "whole date")),
        ("time_format = '%d.%m. %z'", ("time_format", "whole date")),
        ("time_format = '%Y-%m-%d %Q %z'", ("unknown directive %Q",)),
        ("time_format = '%Y-%m-%d %I:%M %z'", ("%I and %p",)),
        ("time_format = '%Y-%m-%d %z %'", ("unknown directive %",)),
        ("time_format = '%Y%Y-%m-%d %z'", ("twice",)),
        ("time_format = 1", ("time_format",)),
        ("columns = 1", ("columns", "not a table")),
        ("[columns]\nBon = 'order'", ("m.toml:2", "columns.Bon", 'did you mean "order_id"')),
        ("[columns]\nP = 'program'", ("columns.P",)),
        ("[columns]\nBon = 1", ("columns.Bon",)),
        ("[constants]\ncurrency = 'Euro'", ("m.toml:2", "constants.currency", "ISO 4217")),
        ("[constants]\ngoal = 'a b'", ("constants.goal",)),
        ("[constants]\nchannel = ''", ("constants.channel",)),
        ("[constants]\namount = 10", ("constants.amount",)),
        ("[constants]\norder_id = 'A'", ("constants.order_id", "currency | goal")),
        ("[columns", ("m.toml:1", "not TOML")),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, words: tuple[str, ...]) -> None:
    [problem] = problems(text)
    assert all(word in problem for word in words), problem


def test_every_mistake_is_named_at_once() -> None:
    text = "encoding = 1\nnonsense = 2\n[columns]\na = 'b'\n[constants]\ncurrency = 'x'"
    assert [problem.split(":")[1] for problem in problems(text)] == ["1", "2", "4", "6"]
