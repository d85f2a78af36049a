"""Putting a bundle together: one zip file with the records, all leaves, the signed head, and how to check them."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from django.conf import settings

from agentauth.embedded import paths
from audit import verify
from audit.checkpoint import LogKey

_CHUNK = 1 << 20

README = """\
Evidence from the record of {tenant}
{line}

This bundle holds {rows} records of the log {origin}
from {since} up to {until}.
{kind}

Check it without us, on any computer with Python 3.9 or newer:

    python3 -m pip install cryptography
    python3 verify.py THIS-BUNDLE.zip --key '{vkey}'

The key after --key is the one thing that you must not take from this file. Compare it with the key that the owner of
the log publishes or gave you before; whoever forges a bundle can forge this text too. For the same reason use your own
copy of verify.py if you have one. It is short and uses nothing but Python and the package `cryptography`.

What is in here
  {data:14} the records. Each repeats the exact text that was hashed{column}.
  names.json     who the ids in the records were called when this was made. Not part of the log.
  leaves.bin     the hash of every record of the log, 32 bytes each, in order; not only of those above.
  checkpoint.txt the signed head of the log: its size and its Merkle root (RFC 9162, C2SP checkpoint).
  manifest.json  what was asked for, by whom, what was left out and why, and the SHA-256 of each file here.
  manifest.sig   the signature over manifest.json.
{defused}
What it proves: no record in here was changed, exchanged, added or moved since it was placed in the log, and, where
every record of a period was asked for, none is missing between the first and the last. For a selection the hashes show
how many records the log has, not which of them fit the query.
"""


@dataclass(slots=True)
class Contents:
    """What goes into a bundle. `leaves` yields the hashes as bytes in any cut; `about` the manifest but its files."""

    tenant_name: str
    data: Path
    names: bytes
    note: str
    leaves: Iterable[bytes]
    about: dict[str, Any] = field(default_factory=dict)


def folder_of(tenant_id: UUID) -> Path:
    """Where a tenant's bundles lie, readable for us alone."""
    paths.private_dir(settings.HOME / "exports")
    return paths.private_dir(settings.HOME / "exports" / str(tenant_id))


def pack(target: Path, contents: Contents, key: LogKey, beat: Callable[[], None]) -> None:
    """Write the bundle to `target`, mode 0600. `beat` is called every few megabytes."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    about = contents.about
    data_name = f"events.{about['data']}"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1) as bundle:
        writer = _Writer(bundle, beat)
        writer.add("README.txt", [readme(contents).encode()])
        writer.add("verify.py", [Path(verify.__file__).read_bytes()])
        writer.add("names.json", [contents.names])
        writer.add("checkpoint.txt", [contents.note.encode()])
        writer.add("leaves.bin", contents.leaves, squeeze=False)  # hashes do not shrink
        with contents.data.open("rb") as data:
            writer.add(data_name, _chunks(data))
        manifest = json.dumps(about | {"files": writer.files}, ensure_ascii=False, indent=2).encode() + b"\n"
        origin = str(about["origin"])
        signed = f"{verify.MANIFEST_TITLE}\n{origin}\n{hashlib.sha256(manifest).hexdigest()}\n"
        writer.add("manifest.json", [manifest])
        writer.add("manifest.sig", [key.sign(origin, signed).encode()])


def readme(contents: Contents) -> str:
    about = contents.about
    title = f"Evidence from the record of {contents.tenant_name}"
    is_csv = about["data"] == "csv"
    return README.format(
        tenant=contents.tenant_name,
        line="=" * len(title),
        rows=about["rows"],
        origin=about["origin"],
        since=about["since"],
        until=about["until"],
        kind=(
            "They are every record of that period. The order is that of the log: a record that was committed late\n"
            "stands after others that are younger, so one from just outside the period may stand between them."
            if about["complete"]
            else f"They are those that fit the query: {about['query']}"
        ),
        vkey=about["vkey"],
        data=f"events.{about['data']}",
        column=" in the column `body`" if is_csv else " under `event`",
        defused=(
            "\nA cell that a spreadsheet would take for a formula has an apostrophe in front of it; `body` never has.\n"
            if is_csv
            else ""
        ),
    )


class _Writer:
    """Adds files and notes their hashes."""

    def __init__(self, bundle: zipfile.ZipFile, beat: Callable[[], None]) -> None:
        self.bundle, self.beat = bundle, beat
        self.files: dict[str, dict[str, Any]] = {}

    def add(self, name: str, parts: Iterable[bytes], *, squeeze: bool = True) -> None:
        entry = zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
        entry.external_attr = 0o600 << 16
        digest, size = hashlib.sha256(), 0
        with self.bundle.open(entry, "w", force_zip64=True) as file:
            for part in parts:
                file.write(part)
                digest.update(part)
                size += len(part)
                self.beat()
        self.files[name] = {"sha256": digest.hexdigest(), "size": size}


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def remove(*files: Path) -> None:
    """Away with these, whether or not they are there."""
    for path in files:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
