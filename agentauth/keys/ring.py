"""Sealing secrets at rest: AES-256-GCM under a key ring outside the database.

The associated data names tenant, row and purpose, so a ciphertext moved to another row does not open. The first key of
the ring seals, all of them open: to rotate, put a new key first and seal again. Losing the ring stops what needs it,
no more.
"""

import json
import os
import secrets
from base64 import b64decode, b64encode
from contextlib import suppress
from functools import cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentauth.embedded import paths


class RingError(Exception):
    """The key that sealed this is not on the ring, or the ciphertext belongs elsewhere."""


@cache
def _ring() -> list[tuple[bytes, AESGCM]]:
    """`secrets/ring.json`: a list of `{"id": hex, "key": base64}`, newest first; made on first use."""
    path = paths.secrets_dir() / "ring.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"ring.json.{os.getpid()}")
        fresh.touch(mode=0o600)
        key = {
            "id": secrets.token_hex(4),
            "key": b64encode(AESGCM.generate_key(256)).decode(),
        }
        fresh.write_text(json.dumps([key]))
        with suppress(FileExistsError):  # another process was first: its ring counts
            os.link(fresh, path)
        fresh.unlink()
    return [(bytes.fromhex(entry["id"]), AESGCM(b64decode(entry["key"]))) for entry in json.loads(path.read_text())]


def seal(plain: bytes, *, tenant_id: UUID, row_id: UUID, purpose: str) -> bytes:
    """Ciphertext: 4 bytes key id, 12 bytes nonce, AES-GCM output."""
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


def _bound_to(tenant_id: UUID, row_id: UUID, purpose: str) -> bytes:
    return f"{purpose}/{tenant_id}/{row_id}".encode()
