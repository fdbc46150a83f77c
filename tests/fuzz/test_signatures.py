"""Signed reports: whatever stands in the headers is read without an error, and only the very signature is right."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from tests.fuzz.budget import examples
from tests.fuzz.hostile import damaged, texts
from tracker.signatures import read_signature, sign

SECRET, BODY = bytes(range(38)), b'{"order_id": "1"}'
HEAD = b"msg_1.1767225600."
WHOLE = {
    b"lastcookie-key": b"AAAQEAYE",
    b"webhook-id": b"msg_1",
    b"webhook-timestamp": b"1767225600",
    b"webhook-signature": sign(SECRET, HEAD, BODY),
}
hostile = texts.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=60)


@examples(300)
@given(st.data())
def test_nothing_else_is_signed(data: st.DataObject) -> None:
    """Headers damaged, doubled, left out or made up, over a body that may be damaged too."""
    sent = [(name, data.draw(st.just(value) | damaged(value) | hostile)) for name, value in WHOLE.items()]
    sent = data.draw(st.permutations(sent) | st.lists(st.sampled_from(sent), max_size=6))
    body = data.draw(st.just(BODY) | damaged(BODY))
    signature = read_signature(Headers(raw=sent))
    is_right = signature is not None and signature.is_right(SECRET, body)
    said = dict(sent)
    is_whole = (
        len(sent) == len(said) == len(WHOLE) and WHOLE[b"webhook-signature"] in said[b"webhook-signature"].split()
    )
    signed = [said.get(b"webhook-id"), said.get(b"webhook-timestamp")] == [b"msg_1", b"1767225600"] and body == BODY
    assert not is_right or (is_whole and signed)
    assert is_right or sent != list(WHOLE.items()) or body != BODY
