"""Keys: none but the very text opens."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import api_keys
from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, texts

KEY = api_keys.make_key("acme", "api", bytes(range(24)), 0)


@examples(400)
@given(damaged(KEY.text.encode()) | texts.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=60))
def test_nothing_else_opens(data: bytes) -> None:
    for text in (data.decode("utf-8", "replace"), data.decode("latin-1")):
        known = api_keys.key_id(text)
        is_opened = known is not None and api_keys.opens(KEY.record if known == KEY.id else None, text)
        assert is_opened == (text == KEY.text)
