"""A small evidence bundle made without a database, and ways to take it apart and forge it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import merkle
from audit.checkpoint import Head, LogKey
from audit.export.bundle import Contents, pack
from audit.export.records import encode, head
from audit.verify import FORMAT, MANIFEST_TITLE

ORIGIN = "auth.example/t/acme"
TENANT = "019a0000-0000-7000-8000-000000000001"
KEY = LogKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"the log's key").digest()))
FORGER = LogKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"somebody else's key").digest()))
VKEY = KEY.verifier(ORIGIN).vkey
NAMES = {"agents": {"a-1": "=cmd|' /C calc'!A0"}, "people": {"m-1": "Matt Okafor <matt@acme.example>"}, "resources": {}}

Files = dict[str, bytes]


def body(number: int, **changes: Any) -> str:
    event = {
        "id": f"019a0000-0000-7000-8000-{number:012d}",
        "tenant": TENANT,
        "at": f"2026-11-22T10:00:{number % 60:02d}.{number:06d}Z",
        "action": "call.allowed",
        "actor": {"kind": "agent", "id": "a-1"},
        "agent": "a-1",
        "member": "m-1",
        "operation": "=HYPERLINK(1)" if number % 3 == 0 else "GET /rooms",
        "details": {"note": 'quotes " and, commas\nand lines'},
        "reasons": ["one", "two"] if number % 2 else [],
    }
    return orjson.dumps(event | changes, option=orjson.OPT_SORT_KEYS).decode()


@dataclass
class Log:
    """A tenant's whole log and which part of it is exported."""

    bodies: list[str] = field(default_factory=lambda: [body(number) for number in range(20)])
    first: int = 5
    end: int = 15
    chosen: Callable[[int], bool] = lambda index: True
    kind: str = "jsonl"
    query: str = ""
    key: LogKey = KEY

    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(text.encode()) for text in self.bodies]

    def note(self) -> str:
        return self.key.sign_head(Head(ORIGIN, len(self.bodies), merkle.root_of(self.leaves())))

    def bundle(self, folder: Path) -> Path:
        leaves = self.leaves()
        rows = [
            (index, leaves[index].hex(), self.bodies[index])
            for index in range(self.first, self.end)
            if self.chosen(index)
        ]
        data = folder / "data"
        data.write_bytes(head(self.kind) + encode(self.kind, rows, NAMES))
        about = {
            "format": FORMAT,
            "tenant": {"id": TENANT, "slug": "acme", "name": "Acme"},
            "origin": ORIGIN,
            "vkey": self.key.verifier(ORIGIN).vkey,
            "since": "2026-11-22T10:00:00Z",
            "until": "2026-11-22T10:01:00Z",
            "query": self.query,
            "data": self.kind,
            "complete": not self.query,
            "rows": len(rows),
            "first_index": rows[0][0],
            "last_index": rows[-1][0],
            "tree_size": len(leaves),
            "root": merkle.root_of(leaves).hex(),
        }
        target = folder / "bundle.zip"
        contents = Contents("Acme", data, orjson.dumps(NAMES), self.note(), [b"".join(leaves)], about)
        pack(target, contents, self.key, lambda: None)
        return target


def taken_apart(path: Path) -> Files:
    with zipfile.ZipFile(path) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def put_together(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    return path


def rehashed(files: Files, **changes: Any) -> Files:
    """The manifest made to fit the files again, as a forger without the key would; its signature stays the old one."""
    manifest = json.loads(files["manifest.json"]) | changes
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
        if not name.startswith("manifest.")
    }
    return files | {"manifest.json": json.dumps(manifest).encode()}


def resigned(files: Files, key: LogKey, **changes: Any) -> Files:
    """All of it forged: manifest made to fit and signed. With the log's own key: what a dishonest owner can do."""
    vkey = key.verifier(ORIGIN).vkey
    files = rehashed(files, **({"vkey": vkey} | changes))
    text = f"{MANIFEST_TITLE}\n{ORIGIN}\n{hashlib.sha256(files['manifest.json']).hexdigest()}\n"
    return files | {"manifest.sig": key.sign(ORIGIN, text).encode()}


def lines_of(files: Files) -> tuple[str, list[bytes]]:
    """The data file's name and its records, without a heading."""
    name = "events.csv" if "events.csv" in files else "events.jsonl"
    if name == "events.jsonl":
        return name, files[name].splitlines(keepends=True)
    return name, files[name].split(b"\r\n")[1:-1]


def with_lines(files: Files, lines: list[bytes]) -> Files:
    name, _ = lines_of(files)
    if name == "events.jsonl":
        return files | {name: b"".join(lines)}
    heading = files[name].split(b"\r\n")[0]
    return files | {name: b"\r\n".join([heading, *lines, b""])}


def read_csv(data: bytes) -> list[list[str]]:
    import csv

    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
