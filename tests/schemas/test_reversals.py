"""Contents of reversals are equal exactly where their texts are."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.reversals import reversal_content

CONTENTS = st.tuples(
    st.none() | st.sampled_from(["1.0000", "2.0000"]), st.sampled_from(["", "[]"]), st.text(max_size=3)
)


def test_a_content_is_canonical_text() -> None:
    assert reversal_content("9.9900", reason="broken") == b'["9.9900","","broken"]'
    assert reversal_content() == b'[null,"",""]'


@given(CONTENTS, CONTENTS)
def test_other_contents_are_other_texts(one: tuple[str | None, str, str], two: tuple[str | None, str, str]) -> None:
    assert (reversal_content(*one) == reversal_content(*two)) == (one == two)
