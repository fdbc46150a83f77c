"""Texts that attackers and accidents send: pieces of every class, put together at random."""

from hypothesis import strategies as st

CONTROLS = ["\r\n", "\n", "\r", "\t", "\0", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u200b", "\u202e", "\ufeff"]
ENCODED = [
    "%0d%0a",
    "%0D%0A",
    "%250d%250a",
    "%00",
    "%09",
    "%2f",
    "%5c",
    "%2e%2e",
    "%40",
    "%23",
    "%3f",
    "%E5%98%8A",
    "%",
]
MARKUP = ["<script>", '"><svg onload=', "'", '"', "`", "${7*7}", "{{7*7}}", "{click_id}", "{sub1}", "<!--", "]]>"]
SQL = ["' OR 1=1 --", "'); DROP TABLE clicks; --", "\\'", "/*", "*/", ";", "UNION SELECT", "file('/etc/passwd')"]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1"]
NUMBERS = ["0", "-0", "1e309", "NaN", "Infinity", "0x7f000001", "1" * 400, "٣", "½", "1_000", "1,5", "-1.5", "49.90"]
WORDS = [
    "null",
    "undefined",
    "None",
    "true",
    "[]",
    "{}",
    "../..",
    "~",
    "COM1",
    "é",
    "e\u0301",
    "ß",
    "İ",
    "日本",
    "🍪",
    "\ufffd",
]

pieces = st.sampled_from([*CONTROLS, *ENCODED, *MARKUP, *SQL, *FORMULAS, *NUMBERS, *WORDS])
texts = st.lists(pieces | st.text(max_size=6), max_size=6).map("".join)
"""Any but lone surrogates, which no decoder makes."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts.map(lambda text: text.encode("utf-8", "replace").decode()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, most: int = 4) -> bytes:
    """`whole` after accidents: bytes changed, cut out, doubled, put in, or the end torn off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["flip", "cut", "double", "insert", "tear", "zero"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20) | pieces.map(lambda text: text.encode("utf-8", "replace")))
        elif kind == "zero":
            data[at : at + length] = bytes(min(length, len(data) - at))
        elif kind == "tear":
            del data[at:]
    return bytes(data)
