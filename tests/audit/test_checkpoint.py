"""A checkpoint says what it says, for one tenant's log, and only under the key that we hold."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audit import verify
from audit.checkpoint import Head, NoLogKey, NoteError, Verifier, key_path, load_key, make_key, split_note
from tests.audit.evidence import FORGER, KEY, ORIGIN

HEAD = Head(ORIGIN, 7, bytes(range(32)))
NOTE = KEY.sign_head(HEAD)
OURS = KEY.verifier(ORIGIN)


def test_a_signed_head_reads_as_the_public_formats_say() -> None:
    text, signature = NOTE.split("\n\n")
    assert text == f"{ORIGIN}\n7\n{base64.b64encode(bytes(range(32))).decode()}"
    dash, name, blob = signature.rstrip("\n").split(" ")
    assert (dash, name) == ("\N{EM DASH}", ORIGIN)
    assert base64.b64decode(blob)[:4].hex() == OURS.vkey.split("+")[1]
    assert OURS.open_checkpoint(NOTE) == HEAD
    assert Verifier.parse(OURS.vkey).open_checkpoint(NOTE) == HEAD
    assert verify._Key.parse(OURS.vkey).open(NOTE) == HEAD.text(), "the verifier's own reading"


def test_a_key_of_a_public_log_is_read_and_has_the_id_that_it_names() -> None:
    """That of Go's checksum database: the id depends on name, type and key together."""
    vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert Verifier.parse(vkey).vkey == vkey
    assert verify._Key.parse(vkey).key_id.hex() == "033de0ae"


def test_a_further_signature_by_somebody_else_changes_nothing() -> None:
    cosigned = NOTE + FORGER.sign("witness.example", HEAD.text()).split("\n\n")[1]
    assert OURS.open_checkpoint(cosigned) == HEAD
    assert [name for name, _ in split_note(cosigned)[1]] == [ORIGIN, "witness.example"]


@pytest.mark.parametrize(
    "forged",
    [
        NOTE.replace("\n7\n", "\n8\n"),
        NOTE.replace("acme", "globex"),
        FORGER.sign_head(HEAD),
        KEY.sign("auth.example/t/globex", HEAD.text()),
        KEY.sign(ORIGIN, Head("auth.example/t/globex", 7, HEAD.root).text()),
        NOTE.replace("\n\n", "\n"),
        NOTE.rstrip("\n"),
        NOTE + "\n",
        NOTE.replace("\N{EM DASH}", "-"),
        HEAD.text(),
        HEAD.text() + "\n",
        "",
        KEY.sign(ORIGIN, f"{ORIGIN}\n7\n"),
        KEY.sign(ORIGIN, f"{ORIGIN}\n07\n{base64.b64encode(bytes(32)).decode()}\n"),
        KEY.sign(ORIGIN, f"{ORIGIN}\n-7\n{base64.b64encode(bytes(32)).decode()}\n"),
        KEY.sign(ORIGIN, f"{ORIGIN}\n7\n{base64.b64encode(bytes(31)).decode()}\n"),
        KEY.sign(ORIGIN, f"{ORIGIN}\n7\nnot base64\n"),
    ],
)
def test_what_we_did_not_sign_for_this_log_is_refused(forged: str) -> None:
    with pytest.raises(NoteError):
        OURS.open_checkpoint(forged)


@pytest.mark.parametrize("vkey", ["", "a+b", OURS.vkey[:-4], OURS.vkey.replace("acme", "acmf"), "a b+00000000+AQ=="])
def test_a_malformed_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        Verifier.parse(vkey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b"])
def test_a_name_that_cannot_stand_in_a_note_is_refused(name: str) -> None:
    with pytest.raises(NoteError):
        KEY.sign(name, "text\n")


def test_the_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    with pytest.raises(NoLogKey):
        load_key(tmp_path)
    with ThreadPoolExecutor(1) as pool:  # who comes second gets the first one's
        made = make_key(tmp_path)
        again = pool.submit(make_key, tmp_path).result()
    assert made.verifier("x").vkey == again.verifier("x").vkey == load_key(tmp_path).verifier("x").vkey
    assert stat.S_IMODE(key_path(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


@pytest.mark.parametrize("content", ["", "AAAA", "not base64!"])
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: str) -> None:
    key_path(tmp_path).write_text(content)
    with pytest.raises(NoteError):
        load_key(tmp_path)
