#!/usr/bin/env python3
"""Check an evidence bundle offline: `python3 verify.py BUNDLE [--key VKEY]`.

Stands alone: this file, Python 3.9 or newer and the package `cryptography`; no network, no server, no trust in whoever
made the bundle beyond their key. It hashes every record again, rebuilds the tree (RFC 9162) and checks the signatures
(C2SP signed notes). On purpose it shares no code with what wrote the bundle.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

FORMAT = "agentauth-evidence/1"
MANIFEST_TITLE = "AgentAuth evidence manifest"
COLUMNS = (
    "index",
    "at",
    "action",
    "agent",
    "person",
    "resource",
    "operation",
    "decision",
    "reasons",
    "outcome",
    "status",
    "latency_us",
    "ip",
    "actor_kind",
    "actor_id",
    "agent_id",
    "member_id",
    "resource_id",
    "grant_id",
    "call_id",
    "subject_kind",
    "subject_id",
    "args_hash",
    "details",
    "id",
    "leaf_hash",
    "body",
)
_MOST_PROBLEMS = 20
_SMALL = 4 * 1024 * 1024
_LONGEST_LINE = 16 * 1024 * 1024
_ALWAYS = ("checkpoint.txt", "leaves.bin", "names.json", "README.txt", "verify.py")
_LINE = re.compile(rb'\{"index":(0|[1-9][0-9]{0,18}),"leaf_hash":"([0-9a-f]{64})","event":(\{.*\})\}\n', re.DOTALL)
_SIGNATURE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+=*)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True)
class Problem:
    """One thing that does not hold. `index` is the record's place in the log, where it is about a record."""

    file: str
    what: str
    index: int | None = None
    expected: str = ""
    computed: str = ""

    def __str__(self) -> str:
        where = self.file if self.index is None else f"record {self.index} in {self.file}"
        told = f"{where}: {self.what}"
        if self.expected or self.computed:
            told += f"\n    expected {self.expected or 'nothing'}\n    computed {self.computed or 'nothing'}"
        return told


@dataclass
class Findings:
    """What the check found. Intact means: no problem at all."""

    problems: list[Problem] = field(default_factory=list)
    records: int = 0
    first_at: str = ""
    last_at: str = ""
    tree_size: int = 0
    root: str = ""
    vkey: str = ""  # the key that all signatures were checked with
    key_given: bool = False  # by whoever asked; else it came from the bundle, which proves less
    complete: bool = False  # every record of the period, not a selection
    origin: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def first_bad(self) -> Problem | None:
        """The first record that does not hold, else the first problem of another kind."""
        bad = sorted((p for p in self.problems if p.index is not None), key=lambda p: p.index or 0)
        return next(iter(bad or self.problems), None)

    def add(self, file: str, what: str, index: int | None = None, expected: object = "", computed: object = "") -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(file, what, index, str(expected), str(computed)))

    def __str__(self) -> str:
        if self.ok:
            period = f", from {self.first_at} to {self.last_at}" if self.records else ""
            kind = "every record of the period" if self.complete else "a selection by the query in manifest.json"
            lines = [
                f"intact: {self.records} records{period}, tree size {self.tree_size}, root {self.root}",
                f"log {self.origin}; {kind}",
                f"signed with {self.vkey}",
            ]
            if not self.key_given:
                lines.append(
                    "That key came with the bundle: compare it with the one the log's owner publishes (--key)."
                )
            return "\n".join(lines)
        first = self.first_bad
        others = [f"- {problem}" for problem in self.problems if problem is not first]
        more = ["Everything that was found:", *others] if others else []
        return "\n".join([f"NOT INTACT: {first}", *more])


class _Unreadable(Exception):
    """Nothing further can be checked; the problem has been added."""


def verify(bundle: str | Path, vkey: str | None = None) -> Findings:
    """Check a bundle, a zip file or the folder it was unpacked to. `vkey` is the key that must have signed it."""
    found = Findings(key_given=vkey is not None)
    try:
        with _Bundle(Path(bundle), found) as opened:
            _check(opened, found, vkey)
    except _Unreadable:
        pass
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as wrong:
        found.add(Path(bundle).name, f"cannot be read: {wrong}")
    except Exception as wrong:  # whatever a forged file does to us is a finding, never a pass
        found.add(Path(bundle).name, f"cannot be understood: {type(wrong).__name__}: {wrong}")
    return found


class _Bundle:
    """The files of a bundle. Refuses what a zip file can hide: names twice, names outside, bombs."""

    def __init__(self, path: Path, found: Findings) -> None:
        self.path, self.found = path, found
        self.zip: zipfile.ZipFile | None = None
        self.names: set[str] = set()

    def __enter__(self) -> _Bundle:
        if self.path.is_dir():
            self.names = {entry.name for entry in self.path.iterdir() if entry.is_file()}
            return self
        self.zip = zipfile.ZipFile(self.path)
        names = self.zip.namelist()
        self.names = set(names)
        if len(names) != len(self.names):
            twice = next(name for name in names if names.count(name) > 1)
            self.found.add(twice, "is in the bundle more than once")
            raise _Unreadable
        return self

    def __exit__(self, *_: object) -> None:
        if self.zip:
            self.zip.close()

    def open(self, name: str) -> IO[bytes]:
        if name not in self.names:
            self.found.add(name, "is missing from the bundle")
            raise _Unreadable
        return self.zip.open(name) if self.zip else (self.path / name).open("rb")

    def read(self, name: str, at_most: int) -> bytes:
        with self.open(name) as file:
            data = file.read(at_most + 1)
        if len(data) > at_most:
            self.found.add(name, f"is longer than the {at_most} bytes it may have")
            raise _Unreadable
        return data


@dataclass(frozen=True)
class _Key:
    """A key as auditors keep it, `name+id+key` (C2SP signed note, Ed25519)."""

    vkey: str
    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> _Key:
        parts = vkey.strip().split("+", 2)
        if len(parts) != 3:
            raise ValueError("a verifier key reads name+id+key")
        raw = base64.b64decode(parts[2], validate=True)
        if len(raw) != 33 or raw[0] != 1:
            raise ValueError("the verifier key is not an Ed25519 key")
        key_id = hashlib.sha256(parts[0].encode() + b"\n" + raw).digest()[:4]
        if key_id.hex() != parts[1]:
            raise ValueError("the verifier key's id does not belong to its name and key")
        return cls(vkey.strip(), parts[0], key_id, raw[1:])

    def open(self, note: str) -> str:
        """The signed text. Raises ValueError."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        text, separator, block = note.rpartition("\n\n")
        if not separator or not block.endswith("\n"):
            raise ValueError("it has no signature")
        text += "\n"
        for line in block[:-1].split("\n"):
            signed = _SIGNATURE.fullmatch(line)
            if signed is None:
                raise ValueError("a signature line is malformed")
            blob = base64.b64decode(signed[2], validate=True)
            if signed[1] == self.name and blob[:4] == self.key_id:
                try:
                    Ed25519PublicKey.from_public_bytes(self.public).verify(blob[4:], text.encode())
                except InvalidSignature:
                    raise ValueError("the signature is forged: it does not fit the text") from None
                return text
        raise ValueError(f"it is not signed with the key {self.vkey}")


def _check(bundle: _Bundle, found: Findings, vkey: str | None) -> None:
    manifest_bytes = bundle.read("manifest.json", _SMALL)
    try:
        manifest = json.loads(manifest_bytes)
        if manifest["format"] != FORMAT:
            raise ValueError(f"the format is {manifest['format']!r}; this program reads {FORMAT!r}")
        key = _Key.parse(vkey if vkey is not None else manifest["vkey"])
        files: dict[str, dict[str, Any]] = manifest["files"]
        data_name = f"events.{manifest['data']}"
        if manifest["data"] not in ("jsonl", "csv") or set(files) != {data_name, *_ALWAYS}:
            raise ValueError("the list of files is not that of an evidence bundle")
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        found.add("manifest.json", f"cannot be understood: {wrong}")
        raise _Unreadable from None
    found.vkey, found.complete, found.origin = key.vkey, manifest["complete"], manifest["origin"]
    if manifest["vkey"] != key.vkey:
        found.add("manifest.json", "was made with another key", None, key.vkey, manifest["vkey"])
    _check_manifest_signature(bundle, found, key, manifest_bytes)
    for name in sorted(bundle.names - set(files) - {"manifest.json", "manifest.sig"}):
        if bundle.zip:
            found.add(name, "does not belong to the bundle: nobody has signed it")
    for name in sorted(files):
        _check_file(bundle, found, name, files[name])
    _check_head(bundle, found, key, manifest)
    leaves = bundle.read("leaves.bin", 32 * max(found.tree_size, 0))
    root = _root(leaves) if len(leaves) % 32 == 0 else b""
    if len(leaves) != 32 * found.tree_size:
        found.add("leaves.bin", "has another length", None, f"{32 * found.tree_size} bytes", f"{len(leaves)} bytes")
    if root.hex() != found.root:
        found.add("leaves.bin", "the leaves lead to another root", None, found.root, root.hex())
    names = json.loads(bundle.read("names.json", max(_SMALL, int(files["names.json"]["size"]))))
    with bundle.open(data_name) as data:
        records = _jsonl(data) if manifest["data"] == "jsonl" else _csv(data)
        _check_records(records, _Claims(data_name, manifest, leaves, names), found)


def _check_manifest_signature(bundle: _Bundle, found: Findings, key: _Key, manifest: bytes) -> None:
    digest = hashlib.sha256(manifest).hexdigest()
    try:
        text = key.open(bundle.read("manifest.sig", _SMALL).decode())
    except ValueError as wrong:
        found.add("manifest.sig", str(wrong))
        return
    if text != f"{MANIFEST_TITLE}\n{key.name}\n{digest}\n":
        found.add("manifest.json", "is not the manifest that was signed", None, text.split("\n")[-2], digest)


def _check_file(bundle: _Bundle, found: Findings, name: str, said: dict[str, Any]) -> None:
    digest, size = hashlib.sha256(), 0
    with bundle.open(name) as file:
        while size <= said["size"] and (chunk := file.read(1 << 20)):
            digest.update(chunk)
            size += len(chunk)
    if size != said["size"]:
        found.add(name, "has another length", None, f"{said['size']} bytes", f"{size} bytes read")
    elif digest.hexdigest() != said["sha256"]:
        found.add(name, "is not the file that was signed for", None, said["sha256"], digest.hexdigest())


def _check_head(bundle: _Bundle, found: Findings, key: _Key, manifest: dict[str, Any]) -> None:
    """The checkpoint, whose size and root all else is measured against."""
    found.tree_size, found.root = int(manifest["tree_size"]), str(manifest["root"])
    note = bundle.read("checkpoint.txt", _SMALL).decode()
    if manifest["origin"] != key.name:
        found.add("manifest.json", "is about another log than its key", None, key.name, manifest["origin"])
    if found.tree_size == 0 and note == "":  # nothing was ever recorded, so nothing is signed but the manifest
        return
    try:
        origin, size, root = key.open(note).split("\n")[:3]
        if origin != key.name:
            found.add("checkpoint.txt", "is of another log", None, key.name, origin)
        found.tree_size, found.root = int(size), base64.b64decode(root, validate=True).hex()
    except ValueError as wrong:
        found.add("checkpoint.txt", str(wrong))
        return
    for what in ("tree_size", "root"):
        if manifest[what] != getattr(found, what):
            found.add("manifest.json", f"names another {what}", None, getattr(found, what), manifest[what])


@dataclass(frozen=True)
class _Record:
    """One record as it stands in the data file; `row` are the columns of a CSV file."""

    index: int
    leaf: str
    body: bytes
    row: list[str] | None = None


@dataclass(frozen=True)
class _Claims:
    """What the records are measured against: the signed manifest and the leaves under the signed root."""

    file: str
    manifest: dict[str, Any]
    leaves: bytes
    names: dict[str, dict[str, str]]


def _check_records(records: Iterator[_Record | str], claims: _Claims, found: Findings) -> None:
    file, manifest, leaves = claims.file, claims.manifest, claims.leaves
    last: int | None = None
    times: list[str] = []
    for record in records:
        if isinstance(record, str):  # not a record at all
            found.add(file, record)
            continue
        found.records += 1
        index, at = record.index, 32 * record.index
        computed = hashlib.sha256(b"\x00" + record.body).hexdigest()
        expected = leaves[at : at + 32].hex()
        if computed != expected:
            what = "is not the record that has this place in the log"
            found.add(file, what, index, expected, computed)
        if record.leaf != expected:
            found.add(file, "names another hash than the log", index, expected, record.leaf)
        if last is not None and index <= last:
            found.add(file, "is out of order, or there twice", index, f"an index above {last}", index)
        elif last is not None and manifest["complete"] and index != last + 1:
            found.add(file, "records are missing before this one", index, last + 1, index)
        last = index if last is None else max(last, index)
        said = _check_content(record, claims, found)
        if said:
            times = [min([said, *times[:1]]), max([said, *times[1:]])]
        if len(found.problems) >= _MOST_PROBLEMS:
            break
        if found.records == 1 and index != manifest["first_index"]:
            found.add(file, "records are missing at the start", index, manifest["first_index"], index)
    if len(found.problems) < _MOST_PROBLEMS:
        if found.records != manifest["rows"]:
            found.add(file, "the number of records differs", None, manifest["rows"], found.records)
        if last != manifest["last_index"]:
            found.add(file, "records are missing at the end, or too many", None, manifest["last_index"], last)
    if times:
        found.first_at, found.last_at = times


def _check_content(record: _Record, claims: _Claims, found: Findings) -> str:
    """That the record is of this tenant and period, and that columns repeat it. Returns its time."""
    file, manifest = claims.file, claims.manifest
    try:
        event = json.loads(record.body)
        at = str(event["at"])
        moment = _moment(at)
        inside = _moment(manifest["since"]) <= moment < _moment(manifest["until"])
    except (ValueError, KeyError, TypeError) as wrong:
        found.add(file, f"is not an event: {wrong}", record.index)
        return ""
    if event.get("tenant") != manifest["tenant"]["id"]:
        found.add(file, "is of another tenant", record.index, manifest["tenant"]["id"], event.get("tenant"))
    # Between the first and the last record of a whole period may stand one that was made outside and committed inside
    if not inside and not manifest["complete"]:
        found.add(file, "is outside the period", record.index, f"{manifest['since']} – {manifest['until']}", at)
    if record.row is not None:
        right = csv_row(record.index, record.leaf, record.body.decode(), event, claims.names)
        for column, wanted, given in zip(COLUMNS, right, record.row):  # noqa: B905  # lengths are equal, Python 3.9
            if wanted != given:
                found.add(file, f"column {column} disagrees with the hashed body", record.index, wanted, given)
    return at


def _jsonl(data: IO[bytes]) -> Iterator[_Record | str]:
    number = 0
    while line := data.readline(_LONGEST_LINE):
        number += 1
        parts = _LINE.fullmatch(line)
        if parts is None:
            yield f"line {number} is not a record, or is cut off"
        else:
            yield _Record(int(parts[1]), parts[2].decode(), parts[3])


def _csv(data: IO[bytes]) -> Iterator[_Record | str]:
    csv.field_size_limit(_LONGEST_LINE)
    rows = csv.reader(io.TextIOWrapper(data, "utf-8-sig", newline=""), strict=True)
    try:
        if next(rows, None) != list(COLUMNS):
            yield "the first line does not name the columns"
            return
        for row in rows:
            said = dict(zip(COLUMNS, row))  # noqa: B905  # lengths are compared below, Python 3.9
            if len(row) != len(COLUMNS) or not re.fullmatch("0|[1-9][0-9]{0,18}", said["index"]):
                yield f"line {rows.line_num} is not a record, or is cut off"
            else:
                yield _Record(int(said["index"]), said["leaf_hash"], said["body"].encode(), row)
    except (csv.Error, UnicodeError) as wrong:
        yield f"line {rows.line_num} is not a record, or is cut off: {wrong}"


def csv_row(index: int, leaf: str, body: str, event: dict[str, Any], names: dict[str, dict[str, str]]) -> list[str]:
    """The columns of one event, all from its body; names are those of names.json. In the order of COLUMNS."""
    actor, subject = event.get("actor") or {}, event.get("subject") or {}
    details = event.get("details")
    row = [
        index,
        event.get("at"),
        event.get("action"),
        names.get("agents", {}).get(event.get("agent", "")),
        names.get("people", {}).get(event.get("member", "")),
        names.get("resources", {}).get(event.get("resource", "")),
        event.get("operation"),
        event.get("decision"),
        " ".join(event.get("reasons") or []),
        event.get("outcome"),
        event.get("status"),
        event.get("latency_us"),
        event.get("ip"),
        actor.get("kind"),
        actor.get("id"),
        event.get("agent"),
        event.get("member"),
        event.get("resource"),
        event.get("grant"),
        event.get("call"),
        subject.get("kind"),
        subject.get("id"),
        event.get("args_hash"),
        json.dumps(details, ensure_ascii=False, sort_keys=True) if details else None,
        event.get("id"),
        leaf,
        body,
    ]
    return ["" if value is None else _defused(str(value)) for value in row]


def _defused(value: str) -> str:
    """A cell that a spreadsheet would take for a formula gets an apostrophe in front."""
    return "'" + value if value.startswith(_FORMULA) else value


def _root(leaves: bytes) -> bytes:
    """RFC 9162 §2.1.1, over 32-byte leaf hashes."""
    stack: list[tuple[int, bytes]] = []
    for at in range(0, len(leaves), 32):
        height, node = 0, leaves[at : at + 32]
        while stack and stack[-1][0] == height:
            node = hashlib.sha256(b"\x01" + stack.pop()[1] + node).digest()
            height += 1
        stack.append((height, node))
    if not stack:
        return hashlib.sha256(b"").digest()
    root = stack.pop()[1]
    while stack:
        root = hashlib.sha256(b"\x01" + stack.pop()[1] + root).digest()
    return root


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)  # noqa: UP017  # Python 3.9


def main(arguments: list[str] | None = None) -> int:
    """0 when intact, 1 when not, 2 when it could not be checked."""
    parser = argparse.ArgumentParser(description="Check an AgentAuth evidence bundle offline.")
    parser.add_argument("bundle", help="the zip file, or the folder it was unpacked to")
    parser.add_argument("--key", help="the log's verifier key, as its owner publishes it")
    options = parser.parse_args(arguments)
    try:
        import cryptography  # noqa: F401
    except ImportError:
        print("This needs the package `cryptography`: python3 -m pip install cryptography", file=sys.stderr)
        return 2
    found = verify(options.bundle, options.key)
    print(found)
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
