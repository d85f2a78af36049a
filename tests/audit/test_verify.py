"""No change to a bundle passes: not by hand, not by chance, not by one who makes every file fit again.

The sweep proves something only if it can fail, so the verifier is also run with each of its checks cut out, and for
each there is a forgery that then passes.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit import merkle, verify
from audit.checkpoint import Head
from tests.audit.evidence import (
    FORGER,
    KEY,
    ORIGIN,
    VKEY,
    Files,
    Log,
    body,
    lines_of,
    put_together,
    read_csv,
    rehashed,
    resigned,
    taken_apart,
    with_lines,
)

KINDS = ("jsonl", "csv")


@pytest.fixture(params=KINDS)
def genuine(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return taken_apart(Log(kind=request.param).bundle(tmp_path))


def check(tmp_path: Path, files: Files, vkey: str | None = VKEY) -> verify.Findings:
    return verify.verify(put_together(tmp_path / "forged.zip", files), vkey)


def test_a_genuine_bundle_is_intact(tmp_path: Path, genuine: Files) -> None:
    for vkey in (VKEY, None):
        found = check(tmp_path, genuine, vkey)
        assert found.ok, str(found)
        assert (found.records, found.tree_size, found.complete) == (10, 20, True)
        assert "intact: 10 records, from 2026-11-22T10:00:05.000005Z to 2026-11-22T10:00:14.000014Z" in str(found)
        assert ("came with the bundle" in str(found)) == (vkey is None)


def test_it_can_also_be_checked_unpacked(tmp_path: Path, genuine: Files) -> None:
    for name, data in genuine.items():
        (tmp_path / name).write_bytes(data)
    assert verify.verify(tmp_path, VKEY).ok


@pytest.mark.parametrize("kind", KINDS)
def test_a_selection_is_intact_too(tmp_path: Path, kind: str) -> None:
    found = verify.verify(Log(kind=kind, query="x", chosen=lambda i: i % 2 == 1).bundle(tmp_path), VKEY)
    assert found.ok, str(found)
    assert (found.records, found.complete) == (5, False)


def test_the_copy_in_the_bundle_runs_by_itself(tmp_path: Path, genuine: Files) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "verify.py").write_bytes(genuine["verify.py"])
    put_together(tmp_path / "genuine.zip", genuine)
    changed = with_lines(genuine, [line.replace(b"call.allowed", b"call.refused") for line in lines_of(genuine)[1]])
    put_together(tmp_path / "forged.zip", changed)
    for name, code, told in (("genuine", 0, "intact: 10 records"), ("forged", 1, "NOT INTACT: record 5 in events")):
        ran = subprocess.run(
            [sys.executable, "-I", "verify.py", f"../{name}.zip", "--key", VKEY],
            cwd=tmp_path / "alone",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, told in ran.stdout) == (code, True), ran.stdout + ran.stderr


def test_a_changed_record_is_named_with_what_was_expected_and_what_is_there(tmp_path: Path, genuine: Files) -> None:
    name, lines = lines_of(genuine)
    lines[3] = lines[3].replace(b"call.allowed", b"call.refused")
    first = check(tmp_path, with_lines(genuine, lines)).first_bad
    assert first is not None
    assert (first.file, first.index) == (name, 8)
    assert first.expected == merkle.leaf_hash(body(8).encode()).hex()
    assert first.computed == merkle.leaf_hash(body(8).replace("call.allowed", "call.refused").encode()).hex()


def test_a_cell_that_looks_like_a_formula_is_defused_and_still_verifies(tmp_path: Path) -> None:
    rows = read_csv(taken_apart(Log(kind="csv").bundle(tmp_path))["events.csv"])
    cells = [cell for row in rows for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    assert "'=HYPERLINK(1)" in cells
    assert not [cell for cell in cells if re.match(r"[=+\-@\t\r\n]", cell)]


# How lines can be changed by one who then makes all else fit again: each is (name, what it does to the lines)
def _swap_bodies(lines: list[bytes]) -> list[bytes]:
    """Two records under each other's index and hash."""
    for old, new in ((b"019a0000-0000-7000-8000-000000000007", b"@@"), (b"019a0000-0000-7000-8000-000000000008",) * 2):
        lines = [line.replace(old, new) for line in lines]
    return [line.replace(b"000000000008", b"000000000007") if b"00000008" in line else line for line in lines]


LINES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "change a record": lambda lines: [lines[0].replace(b"GET", b"PUT"), *lines[1:]],
    "change one space": lambda lines: [lines[0].replace(b"GET /", b"GET  /"), *lines[1:]],
    "delete the first": lambda lines: lines[1:],
    "delete the last": lambda lines: lines[:-1],
    "delete one between": lambda lines: lines[:4] + lines[5:],
    "delete all": lambda lines: [],
    "repeat one": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "reorder two": lambda lines: [lines[1], lines[0], *lines[2:]],
    "reverse": lambda lines: lines[::-1],
    "swap two bodies": _swap_bodies,
    "move to another index": lambda lines: [lines[0].replace(b"5", b"6", 1), *lines[1:]],
    "beyond the log": lambda lines: [*lines[:-1], lines[-1].replace(b"14", b"99", 1)],
    "cut off": lambda lines: [*lines[:-1], lines[-1][:-20]],
    "rubbish": lambda lines: [*lines[:3], b"rubbish\n", *lines[3:]],
}


@pytest.mark.parametrize("harm", LINES)
@pytest.mark.parametrize("forge", [lambda files: files, rehashed], ids=["naive", "rehashed"])
def test_records_changed_by_anybody_are_found(
    tmp_path: Path, genuine: Files, harm: str, forge: Callable[[Files], Files]
) -> None:
    changed = with_lines(genuine, LINES[harm](lines_of(genuine)[1]))
    assert changed != genuine
    for vkey in (VKEY, None):
        assert not check(tmp_path, forge(changed), vkey).ok


@pytest.mark.parametrize("harm", LINES)
def test_records_changed_by_the_owner_of_the_key_are_found_against_the_leaves(
    tmp_path: Path, genuine: Files, harm: str
) -> None:
    """Manifest made to fit and signed with the real key: what is left is the log itself."""
    assert not check(tmp_path, resigned(with_lines(genuine, LINES[harm](lines_of(genuine)[1])), KEY)).ok


def test_a_log_rebuilt_and_signed_by_somebody_else_is_found_with_the_right_key(tmp_path: Path) -> None:
    forged = Log(bodies=[body(n, action="call.refused") for n in range(20)], key=FORGER).bundle(tmp_path)
    assert verify.verify(forged).ok, "by itself it is consistent: that is why the key must come from elsewhere"
    assert not verify.verify(forged, VKEY).ok


def test_a_bundle_of_another_tenant_is_not_taken_for_this_one(tmp_path: Path) -> None:
    theirs = [body(n, tenant="019a0000-0000-7000-8000-00000000beef") for n in range(20)]
    assert not verify.verify(Log(bodies=theirs).bundle(tmp_path), VKEY).ok


@pytest.mark.parametrize("column", [c for c in verify.COLUMNS if c not in ("index", "leaf_hash", "body")])
def test_a_csv_column_that_disagrees_with_the_hashed_body_is_found(tmp_path: Path, column: str) -> None:
    files = taken_apart(Log(kind="csv").bundle(tmp_path))
    import csv
    import io

    rows = read_csv(files["events.csv"])
    rows[3][verify.COLUMNS.index(column)] += "x"
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    forged = resigned(files | {"events.csv": b"\xef\xbb\xbf" + text.getvalue().encode()}, KEY)
    found = check(tmp_path, forged)
    assert [(p.index, column in p.what) for p in found.problems] == [(7, True)]


# Single forgeries that only one check catches: (the check as it stands in the source, what it becomes, the forgery)
def _f(**changes: Any) -> Callable[[Files], Files]:
    return lambda files: resigned(files, KEY, **changes)


def _note_of_another_name(files: Files) -> Files:
    """The right head, signed with the same key in the name of another tenant's log."""
    root = bytes.fromhex(json.loads(files["manifest.json"])["root"])
    note = KEY.sign("auth.example/t/globex", Head(ORIGIN, 20, root).text())
    return resigned(files | {"checkpoint.txt": note.encode()}, KEY)


def _misnamed_note(files: Files) -> Files:
    """Signed in our name, but the text names another log."""
    root = bytes.fromhex(json.loads(files["manifest.json"])["root"])
    note = KEY.sign(ORIGIN, Head("auth.example/t/globex", 20, root).text())
    return resigned(files | {"checkpoint.txt": note.encode()}, KEY)


def _leaf(files: Files, index: int) -> Files:
    leaves = bytearray(files["leaves.bin"])
    leaves[32 * index] ^= 1
    return resigned(files | {"leaves.bin": bytes(leaves)}, KEY)


MUTANTS: dict[str, tuple[str, str, Callable[[Files], Files]]] = {
    "record hash": (
        "if computed != expected:",
        "if False:",
        lambda f: resigned(with_lines(f, [x.replace(b"call.allowed", b"call.refused") for x in lines_of(f)[1]]), KEY),
    ),
    "leaf column": (
        "if record.leaf != expected:",
        "if False:",
        lambda f: resigned(
            with_lines(f, [re.sub(rb'"leaf_hash":"..', b'"leaf_hash":"00', x) for x in lines_of(f)[1]]), KEY
        ),
    ),
    "order": (
        "if last is not None and index <= last:",
        "if False:",
        lambda f: resigned(with_lines(f, [*lines_of(f)[1][:4], *lines_of(f)[1][3:]]), KEY, rows=11, complete=False),
    ),
    "gaps": (
        'elif last is not None and manifest["complete"] and index != last + 1:',
        "elif False:",
        lambda f: resigned(with_lines(f, lines_of(f)[1][:4] + lines_of(f)[1][5:]), KEY, rows=9),
    ),
    "start": (
        'if found.records == 1 and index != manifest["first_index"]:',
        "if False:",
        lambda f: resigned(with_lines(f, lines_of(f)[1][1:]), KEY, rows=9),
    ),
    "end": (
        'if last != manifest["last_index"]:',
        "if False:",
        lambda f: resigned(with_lines(f, lines_of(f)[1][:-1]), KEY, rows=9),
    ),
    "count": ('if found.records != manifest["rows"]:', "if False:", _f(rows=11)),
    "tenant": (
        'if event.get("tenant") != manifest["tenant"]["id"]:',
        "if False:",
        _f(tenant={"id": "another"}),
    ),
    "period": (
        'if not inside and not manifest["complete"]:',
        "if False:",
        lambda f: resigned(f, KEY, complete=False, since="2026-11-22T10:00:07Z"),
    ),
    "root of the leaves": ("if root.hex() != found.root:", "if False:", lambda f: _leaf(f, 2)),
    "size in the manifest": (
        "if manifest[what] != getattr(found, what):",
        "if False:",
        _f(root="00" * 32),
    ),
    "checkpoint's signature": (
        'raise ValueError("the signature is forged: it does not fit the text") from None',
        "pass",
        lambda f: resigned(f | {"checkpoint.txt": _flip_signature(f["checkpoint.txt"])}, KEY),
    ),
    "checkpoint's key": (
        "if signed[1] == self.name and blob[:4] == self.key_id:",
        "if signed[1] == self.name or True:",
        _note_of_another_name,
    ),
    "checkpoint's origin": ("if origin != key.name:", "if False:", _misnamed_note),
    "manifest's origin": ('if manifest["origin"] != key.name:', "if False:", _f(origin="auth.example/t/other")),
    "manifest's key": (
        'if manifest["vkey"] != key.vkey:',
        "if False:",
        _f(vkey=FORGER.verifier(ORIGIN).vkey),
    ),
    "manifest's hash": ('if text != f"{MANIFEST_TITLE}', 'if False and text != f"{MANIFEST_TITLE}', rehashed),
    "file hash": (
        'elif digest.hexdigest() != said["sha256"]:',
        "elif False:",
        lambda f: f | {"README.txt": f["README.txt"][::-1]},
    ),
    "file size": (
        'if size != said["size"]:',
        "if False:",
        lambda f: f | {"README.txt": f["README.txt"] + b"x" * 3_000_000},
    ),
    "foreign files": (
        "if bundle.zip:\n            found.add(name",
        "if False:\n            found.add(name",
        lambda f: f | {"run-me.exe": b"x"},
    ),
}


def _flip_signature(note: bytes) -> bytes:
    return note[:-10] + (b"A" if note[-10:-9] != b"A" else b"B") + note[-9:]


@pytest.mark.parametrize("name", MUTANTS)
def test_every_check_is_needed(tmp_path: Path, name: str) -> None:
    """The forgery is found; with just that check cut out of the verifier, it passes."""
    check_line, replacement, forge = MUTANTS[name]
    forged = put_together(tmp_path / "forged.zip", forge(taken_apart(Log().bundle(tmp_path))))
    assert not verify.verify(forged, VKEY).ok
    source = Path(verify.__file__).read_text()
    assert source.count(check_line) == 1
    if name != "file size":  # the hash of a longer file differs too: two checks, one forgery
        assert _mutant(source.replace(check_line, replacement)).verify(forged, VKEY).ok


def _mutant(source: str) -> Any:
    module = types.ModuleType("mutant")
    sys.modules["mutant"] = module  # dataclasses look there
    exec(compile(source, "mutant", "exec"), module.__dict__)
    return module


def test_no_byte_anywhere_can_be_changed(tmp_path: Path, genuine: Files) -> None:
    """At random, with a fixed seed: flip, drop, add or move bytes of any file."""
    dice = random.Random(5)
    for _ in range(400):
        name = dice.choice(sorted(genuine))
        data = bytearray(genuine[name])
        at = dice.randrange(len(data))
        match dice.randrange(4):
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                del data[at : at + dice.randrange(1, 40)]
            case 2:
                data[at:at] = dice.randbytes(dice.randrange(1, 8))
            case 3:
                data[at:at], data[at:] = data[at // 2 : at // 2 + 9], data[at:]
        if bytes(data) != genuine[name]:
            assert not check(tmp_path, genuine | {name: bytes(data)}).ok, (name, at)


def test_a_zip_file_cut_short_or_damaged_is_found(tmp_path: Path) -> None:
    whole = Log().bundle(tmp_path).read_bytes()
    dice = random.Random(6)
    for _ in range(150):
        at = dice.randrange(len(whole))
        (tmp_path / "cut.zip").write_bytes(whole[:at])
        assert not verify.verify(tmp_path / "cut.zip", VKEY).ok
    assert not verify.verify(tmp_path / "nowhere.zip", VKEY).ok


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "checkpoint.txt", "leaves.bin", "events.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    files = taken_apart(Log().bundle(tmp_path))
    del files[name]
    found = check(tmp_path, files)
    assert [problem.file for problem in found.problems if "missing" in problem.what] == [name]


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = Log().bundle(tmp_path)
    with zipfile.ZipFile(path, "a") as bundle, pytest.warns(UserWarning, match="Duplicate"):
        bundle.writestr("events.jsonl", b"")
    assert "more than once" in str(verify.verify(path, VKEY))


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    files = taken_apart(Log().bundle(tmp_path))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in files.items():
            bundle.writestr(name, b"0" * 50_000_000 if name in ("manifest.sig", "leaves.bin") else data)
    assert not verify.verify(tmp_path / "bomb.zip", VKEY).ok


@pytest.mark.parametrize("vkey", ["", "x", "a+b+c", VKEY[:-2], VKEY.replace("acme", "acmf")])
def test_a_malformed_key_is_refused(tmp_path: Path, vkey: str) -> None:
    assert not verify.verify(Log().bundle(tmp_path), vkey).ok
