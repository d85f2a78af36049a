"""Signed tree heads: C2SP tlog-checkpoint in a C2SP signed note, Ed25519.

The key lies in a file outside the database, so whoever can write the database still cannot sign. One key serves all
tenants; its name in a note is the tenant's origin, so a head of one tenant is never taken for another's.
"""

import base64
import binascii
import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"  # C2SP signed-note: signature type
_SIGNATURE_LINE = re.compile("^\N{EM DASH} ([^\\s+]+) ([A-Za-z0-9+/]+=*)$")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteError(ValueError):
    """A note, checkpoint or key is malformed, or nobody whom we trust signed it."""


class NoLogKey(Exception):
    """The log's key file is not there; the text says where it was looked for."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a checkpoint says: this tenant's first `size` leaves have this root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Raises NoteError. Extension lines are allowed and ignored (C2SP tlog-checkpoint)."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or "" in lines[:-1]:
            raise NoteError("a checkpoint has an origin, a size and a root, each on a line")
        origin, size, root = lines[:3]
        if not _NUMBER.fullmatch(size):
            raise NoteError(f"{size!r} is not a tree size")
        decoded = _decode(root)
        if len(decoded) != hashlib.sha256().digest_size:
            raise NoteError("the root is not a SHA-256 hash")
        return cls(origin, int(size), decoded)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under a name."""

    name: str
    public: Ed25519PublicKey

    @property
    def raw(self) -> bytes:
        return self.public.public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4]

    @property
    def vkey(self) -> str:
        """The printable form that an auditor keeps: `name+id+key`."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(_ED25519 + self.raw)}"

    @classmethod
    def parse(cls, vkey: str) -> "Verifier":
        """Raises NoteError."""
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise NoteError("a verifier key reads name+id+key")
        name, key_id, key = parts
        raw = _decode(key)
        if raw[:1] != _ED25519 or len(raw) != 33:
            raise NoteError("the verifier key is not an Ed25519 key")
        found = cls(require_name(name), Ed25519PublicKey.from_public_bytes(raw[1:]))
        if found.key_id.hex() != key_id:
            raise NoteError("the verifier key's id does not belong to its name and key")
        return found

    def open(self, note: str) -> str:
        """The text of a note that this key has signed. Raises NoteError."""
        text, signatures = split_note(note)
        for name, blob in signatures:
            if name != self.name or blob[:4] != self.key_id:
                continue
            try:
                self.public.verify(blob[4:], text.encode())
            except InvalidSignature:
                raise NoteError(f"the signature of {name} does not fit the text") from None
            return text
        raise NoteError(f"{self.name} has not signed this with the expected key")

    def open_checkpoint(self, note: str) -> Head:
        """The head in a note that this key has signed; its origin must be the key's name. Raises NoteError."""
        head = Head.parse(self.open(note))
        if head.origin != self.name:
            raise NoteError(f"the checkpoint is for {head.origin}, not for {self.name}")
        return head


@dataclass(frozen=True, slots=True)
class LogKey:
    """The log's signing key."""

    private: Ed25519PrivateKey

    def verifier(self, origin: str) -> Verifier:
        return Verifier(require_name(origin), self.private.public_key())

    def sign(self, origin: str, text: str) -> str:
        """`text`, which ends in a newline and has no empty line before it, as a note signed in the name of `origin`."""
        if not text.endswith("\n"):
            raise NoteError("a note's text ends in a newline")
        signature = self.verifier(origin).key_id + self.private.sign(text.encode())
        return f"{text}\n\N{EM DASH} {origin} {_encode(signature)}\n"

    def sign_head(self, head: Head) -> str:
        return self.sign(head.origin, head.text())


def require_name(name: str) -> str:
    """`name` if it can stand in a note. Raises NoteError."""
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise NoteError(f"{name!r} cannot be a key's name")
    return name


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Text and signatures of a note, nothing verified. Raises NoteError."""
    text, separator, block = note.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise NoteError("a note has a text, an empty line and signatures")
    signatures = []
    for line in block[:-1].split("\n"):
        found = _SIGNATURE_LINE.match(line)
        blob = _decode(found[2]) if found else b""
        if found is None or len(blob) < 5:
            raise NoteError("a signature line is malformed")
        signatures.append((found[1], blob))
    return text + "\n", signatures


def key_path(secrets: Path) -> Path:
    return secrets / "log.key"


def load_key(secrets: Path) -> LogKey:
    """The key in this folder. Raises NoLogKey, NoteError."""
    path = key_path(secrets)
    try:
        seed = _decode(path.read_text().strip())
    except FileNotFoundError:
        raise NoLogKey(f"{path} is not there; without it nobody can sign the record") from None
    if len(seed) != 32:
        raise NoteError(f"{path} does not hold an Ed25519 key")
    return LogKey(Ed25519PrivateKey.from_private_bytes(seed))


def make_key(secrets: Path) -> LogKey:
    """The key in this folder, made with mode 0600 when it is not there yet; the first process to make one wins."""
    path = key_path(secrets)
    fresh = path.with_name(f"log.key.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(_encode(Ed25519PrivateKey.generate().private_bytes_raw()) + "\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(fresh, path)
    fresh.unlink()
    return load_key(secrets)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError(f"{text[:80]!r} is not base64") from None
