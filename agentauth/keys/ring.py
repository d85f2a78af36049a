"""Sealing secrets at rest: AES-256-GCM under a key ring outside the database.

The associated data names tenant, row and purpose, so a ciphertext moved to another row does not open. The first key of
the ring seals, all of them open: to rotate, put a new key first and seal again (`resealing.py`). Losing the ring stops
what needs it, no more: a lost ring is never replaced by a new one unasked, which would hide the loss and seal with it.
"""

import json
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentauth.embedded import paths

Entry = dict[str, str]  # {"id": hex, "key": base64}
Keys = list[tuple[bytes, AESGCM]]

_read: tuple[tuple[int, int, int], Keys] | None = None  # what the file was when we read it


class RingError(Exception):
    """The key that sealed this is not on the ring, the ring is not there, or the ciphertext belongs elsewhere."""


def path() -> Path:
    """`secrets/ring.json`: a list of entries, newest first."""
    return paths.secrets_dir() / "ring.json"


def make() -> None:
    """The first ring of an installation, unless there is one."""
    if not path().exists():
        _put([new_entry()], replace=False)


def new_entry() -> Entry:
    return {"id": secrets.token_hex(4), "key": b64encode(AESGCM.generate_key(256)).decode()}


def entries() -> list[Entry]:
    """What the file says. Raises RingError."""
    try:
        found: list[Entry] = json.loads(path().read_text())
        _as_keys(found)
    except FileNotFoundError:
        raise RingError(f"the key ring {path()} is not there") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise RingError(f"the key ring {path()} cannot be read: {type(problem).__name__}") from None
    return found


def put(new: Sequence[Entry]) -> None:
    """Replace the ring as a whole; every process reads it again when it next needs it."""
    _put(list(new), replace=True)


def seal(plain: bytes, *, tenant_id: UUID, row_id: UUID, purpose: str) -> bytes:
    """Ciphertext: 4 bytes key id, 12 bytes nonce, AES-GCM output. Raises RingError."""
    key_id, key = _ring()[0]
    nonce = os.urandom(12)
    return key_id + nonce + key.encrypt(nonce, plain, _bound_to(tenant_id, row_id, purpose))


def unseal(sealed: "bytes | memoryview[int]", *, tenant_id: UUID, row_id: UUID, purpose: str) -> bytes:
    """The plaintext, or RingError when key, tenant, row or purpose is another."""
    key_id, nonce, box = bytes(sealed[:4]), bytes(sealed[4:16]), bytes(sealed[16:])
    for known, key in _ring():
        if known == key_id:
            try:
                return key.decrypt(nonce, box, _bound_to(tenant_id, row_id, purpose))
            except InvalidTag:
                raise RingError("sealed for another row") from None
    raise RingError(f"key {key_id.hex()} is not on the ring")


def sealed_by(sealed: "bytes | memoryview[int]") -> str:
    """The id of the key that sealed this."""
    return bytes(sealed[:4]).hex()


def _ring() -> Keys:
    """Read again whenever the file is another one: a look at it costs two microseconds."""
    global _read
    try:
        seen = path().stat()
    except OSError:
        raise RingError(f"the key ring {path()} is not there") from None
    mark = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
    if _read is None or _read[0] != mark:
        _read = mark, _as_keys(entries())
    return _read[1]


def _as_keys(found: list[Entry]) -> Keys:
    keys = [(bytes.fromhex(entry["id"]), AESGCM(b64decode(entry["key"]))) for entry in found]
    if not keys:
        raise ValueError("empty")
    return keys


def _put(new: list[Entry], *, replace: bool) -> None:
    path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path().with_name(f"ring.json.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    with open(fresh, "w") as file:
        json.dump(new, file)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        fresh.replace(path())
        return
    with suppress(FileExistsError):  # another process was first: its ring counts
        os.link(fresh, path())
    fresh.unlink()


def _bound_to(tenant_id: UUID, row_id: UUID, purpose: str) -> bytes:
    return f"{purpose}/{tenant_id}/{row_id}".encode()
