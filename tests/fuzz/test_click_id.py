"""Click ids: what was not minted here, for this program, is nobody's; and no id makes reading fail."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, texts
from tracker.click_id import ClickIds, visitor_text

KEYS = {1: bytes(range(48)), 7: bytes(range(1, 49))}
IDS = ClickIds(KEYS)
MINTED = IDS.mint(1_767_225_600_000, 3, 7, b"visitor!", b"shoes")
RAW = urlsafe_b64decode(MINTED)


def is_good() -> bool:
    """Reading what is forged leaves nothing behind in the cipher."""
    click = IDS.read(MINTED.decode(), "shoes")
    return click is not None and click.visitor == visitor_text(b"visitor!")


@examples(300)
@given(st.lists(st.integers(0, len(RAW) * 8 - 1), min_size=1, max_size=4, unique=True))
def test_flipped_bits(bits: list[int]) -> None:
    forged = bytearray(RAW)
    for bit in bits:
        forged[bit // 8] ^= 1 << bit % 8
    assert IDS.read(urlsafe_b64encode(forged).decode(), "shoes") is None and is_good()


@examples(300)
@given(damaged(MINTED) | texts.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=40))
def test_damaged_and_invented_ids(data: bytes) -> None:
    for text in (data.decode("utf-8", "replace"), data.decode("latin-1")):
        assert (IDS.read(text, "shoes") is not None) == (text == MINTED.decode())
    assert is_good()


@examples(200)
@given(
    st.binary(min_size=24, max_size=24)
    | st.sampled_from(sorted(KEYS)).flatmap(
        lambda number: st.binary(min_size=23, max_size=23).map(bytes([number]).__add__)
    )
)
def test_random_ids_of_the_right_shape(raw: bytes) -> None:
    assert IDS.read(urlsafe_b64encode(raw).decode(), "shoes") is None and is_good()


@examples(100)
@given(texts)
def test_another_program(program: str) -> None:
    program = program.encode("utf-8", "replace").decode()
    assert (IDS.read(MINTED.decode(), program) is not None) == (program == "shoes")
