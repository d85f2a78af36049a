"""The doctor names what is wrong and the command that mends it, for people and as JSON."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from agentauth.embedded import paths
from agentauth.embedded.postgres import SUPERUSER
from agentauth.keys import resealing, ring
from tests import cast

pytestmark = pytest.mark.django_db(transaction=True)


def _report() -> dict[str, dict[str, str | bool]]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:  # nothing runs on this home, so something is always wrong
        call_command("doctor", json=True, stdout=out)
    assert ended.value.code == 1
    return {finding["name"]: finding for finding in json.loads(out.getvalue())}


def test_what_is_well_is_ok_and_what_does_not_run_names_the_command_that_starts_it() -> None:
    report = _report()
    for name in ("python", "home", "database", "row-level security", "tables", "clock", "record"):
        assert report[name]["ok"], report[name]
    for name in ("processes", "queue"):
        assert not report[name]["ok"]
        assert report[name]["remedy"] == "bin/run"


def test_people_get_a_line_each_and_the_remedy_under_what_is_wrong() -> None:
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out)
    assert "ok     database" in out.getvalue()
    assert "WRONG  processes" in out.getvalue()
    assert "→ bin/run" in out.getvalue()


def test_a_secret_that_others_may_read_is_wrong() -> None:
    secret = paths.secrets_dir() / "doctor-test"
    secret.touch(mode=0o644)
    secret.chmod(0o644)
    try:
        finding = _report()["secrets"]
    finally:
        secret.unlink()
    assert not finding["ok"]
    assert "doctor-test" in str(finding["text"])
    assert "chmod" in str(finding["remedy"])


def test_a_runtime_role_that_can_bypass_the_wall_between_tenants_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["sequencer"].settings_dict, "USER", SUPERUSER)
    connections["sequencer"].close()
    try:
        finding = _report()["row-level security"]
    finally:
        connections["sequencer"].close()
    assert not finding["ok"]
    assert f"{SUPERUSER} bypasses" in str(finding["text"])


def test_a_missing_migration_is_wrong() -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions' RETURNING app, name, applied")
        row = cursor.fetchone()
        try:
            finding = _report()["tables"]
        finally:
            cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES (%s, %s, %s)", row)
    assert not finding["ok"]
    assert "migrate" in str(finding["remedy"])


def test_the_key_ring_is_examined_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _report()["key ring"]["ok"]
    monkeypatch.setattr(ring, "path", lambda: tmp_path / "ring.json")
    with transaction.atomic():
        cast.acme()
    finding = _report()["key ring"]
    assert finding["ok"] and "1 secrets sealed" in str(finding["text"])
    former = ring.entries()[0]["id"]
    resealing.add_key()
    finding = _report()["key ring"]
    assert not finding["ok"] and finding["remedy"] == "manage.py rotate-keys --reseal"
    ring.put([ring.new_entry()])
    assert f"{former} (1 secrets)" in str(_report()["key ring"]["text"])
    ring.path().unlink()
    finding = _report()["key ring"]
    assert "no token can be issued" in str(finding["text"]) and "backup" in str(finding["remedy"])
