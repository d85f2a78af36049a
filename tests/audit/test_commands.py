"""The record's commands, as an operator and an auditor use them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from audit import identity, sequencer
from tests.audit.evidence import VKEY, Log, put_together, taken_apart
from tests.audit.writing import waiting, write
from tests.cast import House, events_of


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.export.requesting.enqueue", lambda *_: None)


def test_an_export_goes_from_the_record_to_a_file_that_verifies(acme: House, no_queue: None, tmp_path: Path) -> None:
    write(acme.tenant.id, 12)
    assert "events placed" in run("sequencer", "--once")
    assert waiting() == 0
    out = tmp_path / "evidence.zip"
    told = run(
        "export", "acme", "--by", "cora@acme.example", "--since", "2020-01-01", "--out", str(out), "--format=csv"
    )
    assert f"records in {out}" in told
    key = run("verify", "--show-key", "acme").strip()
    assert key == identity.verifier("acme").vkey
    assert "intact: " in run("verify", str(out), "--key", key)
    assert "It is this installation's key." in run("verify", str(out))
    assert "intact: " in run("verify", str(out), "--tenant", "acme")
    with override_settings(KNOBS=settings.KNOBS.model_copy(update={"base_url": "https://moved.example"})):
        assert "intact: " in run("verify", str(out), "--tenant", "acme"), "the installation has moved, the log has not"
    assert [event.member_id for event in events_of(acme.tenant.id, "export.downloaded")] == [acme.members["cora"].id]
    with pytest.raises(SystemExit) as ended:
        run("verify", str(out), "--tenant", "globex")
    assert ended.value.code == 1


@pytest.mark.parametrize("named", ["acme", "globex"])
def test_another_installations_bundle_is_not_taken_for_ours(tmp_path: Path, named: str) -> None:
    identity.first_key()
    theirs = Log().bundle(tmp_path)
    assert "It is not this installation's key." in run("verify", str(theirs))
    with pytest.raises(SystemExit):
        run("verify", str(theirs), "--tenant", named)


def test_verifying_a_forged_bundle_names_the_record_and_ends_with_1(tmp_path: Path) -> None:
    files = taken_apart(Log().bundle(tmp_path))
    files["events.jsonl"] = files["events.jsonl"].replace(b"GET /rooms", b"GET /boons", 1)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify", str(put_together(tmp_path / "forged.zip", files)), key=VKEY, stdout=out)
    assert ended.value.code == 1
    assert "NOT INTACT: record 5 in events.jsonl" in out.getvalue()


@pytest.mark.parametrize(
    ("tenant", "by", "query", "told"),
    [
        ("nowhere", "cora@acme.example", "", "no tenant"),
        ("acme", "matt@acme.example", "", "nobody who may export"),
        ("acme", "gus@globex.example", "", "nobody who may export"),
        ("acme", "cora@acme.example", "decision:maybe", "query"),
    ],
)
def test_who_may_not_export_or_asks_wrongly_gets_nothing(
    acme: House, globex: House, no_queue: None, tmp_path: Path, tenant: str, by: str, query: str, told: str
) -> None:
    sequencer.drain()
    out = tmp_path / "evidence.zip"
    with pytest.raises(CommandError, match=told):
        run("export", tenant, "--by", by, "--since", "2020-01-01", "--query", query, "--out", str(out))
    assert not out.exists()
    assert events_of(acme.tenant.id, "export.requested") == []
