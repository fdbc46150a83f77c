"""Click ids: 32 characters that only the server can read, and that nobody else can make.

    key number (1 byte) | AES-128 block (16) | tag (7)   -> base64url, 32 characters
    block: time in ms (42 bits) | worker (10) sequence (12) | visitor (64)
    tag:   keyed BLAKE2b over key number, block and program

So a server-to-server sale that knows only its click id finds its visitor without an index, an invented id or one of
another program fails the tag before any look-up, and merchants cannot link two clicks of one visitor. Keys live in
`click-id.keys` in the data folder: one line a key, the one with the greatest number mints. Called by the click path
and by conversions. The same secrets make those of signed reports (schemas/api_keys.py).
"""

import os
import re
from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

LENGTH = 32
WORKERS_MAX = 1 << 10
WORKERS_A_NODE = 32
"""Worker numbers of machine n begin at n times this."""

SEQUENCE_BITS = 12
_SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_SHAPE = re.compile(rf"[A-Za-z0-9_-]{{{LENGTH}}}")
_VISITOR_SHAPE = re.compile(rb"[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]")
"""64 bits in 11 characters leave two bits of the last to spare: they are 0."""

_NUMBERS = frozenset(str(number) for number in range(256))
_SECRET_BYTES = 48  # 16 for the cipher, 32 for the tag


class Click(NamedTuple):
    """What a click id says: when (ms), at which worker, its place in the worker's sequence, and whose."""

    ts: int
    worker: int
    sequence: int
    visitor: str


class _Key:
    def __init__(self, number: int, secret: bytes) -> None:
        cipher = Cipher(algorithms.AES(secret[:16]), modes.ECB())
        # Reused contexts (0.3 µs a block; a new one costs 4 µs). They buffer partial blocks: feed 16 bytes, always.
        self.encrypt = cipher.encryptor().update
        self.decrypt = cipher.decryptor().update
        self.prefix = bytes([number])
        self._keyed = blake2b(self.prefix, digest_size=7, key=secret[16:])

    def tag(self, block: bytes, program: bytes) -> bytes:
        tag = self._keyed.copy()  # a new one each time costs 0.6 µs more
        tag.update(block + program)
        return tag.digest()


class ClickIds:
    """Mints and reads click ids with one installation's keys."""

    def __init__(self, secrets: dict[int, bytes]) -> None:
        self._keys = {number: _Key(number, secret) for number, secret in secrets.items()}
        self._current = self._keys[max(self._keys)]

    def mint(self, ts: int, worker: int, sequence: int, visitor: bytes, program: bytes) -> bytes:
        """A click id for a visitor's 8 bytes; `sequence` is cut to its low bits."""
        key = self._current
        head = ts << 22 | worker << SEQUENCE_BITS | sequence & _SEQUENCE_MASK
        block = key.encrypt(head.to_bytes(8, "big") + visitor)
        return b2a_base64(key.prefix + block + key.tag(block, program), newline=False).translate(_URL_SAFE)

    def visitor_of(self, click_id: str, program: str) -> str | None:
        """Whose the click was, or None where the id is not one of ours for this program."""
        block = self._open(click_id, program)
        return None if block is None else visitor_text(block[8:])

    def read(self, click_id: str, program: str) -> Click | None:
        """All that the id says, or None where it is not one of ours for this program."""
        block = self._open(click_id, program)
        if block is None:
            return None
        head = int.from_bytes(block[:8], "big")
        worker = head >> SEQUENCE_BITS & WORKERS_MAX - 1
        return Click(head >> 22, worker, head & _SEQUENCE_MASK, visitor_text(block[8:]))

    def _open(self, click_id: str, program: str) -> bytes | None:
        if not _SHAPE.fullmatch(click_id):  # the decoder would skip foreign characters
            return None
        raw = a2b_base64(click_id.encode().translate(_STANDARD))
        key = self._keys.get(raw[0])
        if key is None or not compare_digest(key.tag(raw[1:17], program.encode()), raw[17:]):
            return None
        return key.decrypt(raw[1:17])


def visitor_text(visitor: bytes) -> str:
    """A visitor's 8 bytes as the 11 characters of cookie and tables."""
    return visitor_ascii(visitor).decode()


def visitor_ascii(visitor: bytes) -> bytes:
    """The same as bytes."""
    return b2a_base64(visitor, newline=False).translate(_URL_SAFE)[:11]


def visitor_bytes(text: bytes) -> bytes | None:
    """The 8 bytes of a visitor's 11 characters, or None where they are not what `visitor_text` writes.

    Never another number of bytes: 7 in one click id's block would stay in the cipher and spoil every later id.
    """
    return a2b_base64(text.translate(_STANDARD) + b"=") if _VISITOR_SHAPE.fullmatch(text) else None


def load_keys(path: Path, new_secret: bytes) -> ClickIds:
    """Click ids by the secrets of the key file, see `load_secrets`."""
    return ClickIds(load_secrets(path, new_secret))


def load_secrets(path: Path, new_secret: bytes) -> dict[int, bytes]:
    """Read the key file, numbers to secrets; the first start makes it, with `new_secret` (48 random bytes).

    Several processes may start at once: the one that creates the file decides. Raises ValueError for a file that
    cannot be read: going on with other keys would disown every click id issued.
    """
    if not path.exists():
        _create(path, f"1 {new_secret.hex()}\n")
    secrets: dict[int, bytes] = {}
    for line in path.read_text().splitlines():
        number, _, secret = line.partition(" ")
        if not re.fullmatch(rf"[0-9a-f]{{{2 * _SECRET_BYTES}}}", secret) or number not in _NUMBERS:
            break
        secrets[int(number)] = bytes.fromhex(secret)
    else:
        if secrets:
            return secrets
    raise ValueError(f"{path}: expected lines of a number (0-255) and {_SECRET_BYTES} bytes in hex")


def _create(path: Path, text: str) -> None:
    """Make the file, whole and on disk, unless another process was faster."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    with draft.open("w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
