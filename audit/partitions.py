"""Monthly partitions of the events. Ids are UUIDv7, so a month is a range of ids and the key needs no time column."""

from collections.abc import Iterator
from datetime import UTC, datetime

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.utils.timezone import now

MONTHS_AHEAD = 24


def month_start(year: int, month: int) -> str:
    """The smallest UUIDv7 of a month, as text."""
    milliseconds = int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"


def statements(months_ahead: int = MONTHS_AHEAD) -> Iterator[str]:
    """SQL that makes this month's partition and those ahead, where missing. Run as the owner."""
    year, month = now().year, now().month
    for _ in range(months_ahead + 1):
        name = f"audit_event_{year}_{month:02d}"
        after = (year + 1, 1) if month == 12 else (year, month + 1)
        bounds = f"FOR VALUES FROM ('{month_start(year, month)}') TO ('{month_start(*after)}')"
        yield f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF audit_event {bounds}"
        yield from _walled(name)
        year, month = after


def _walled(name: str) -> Iterator[str]:
    """Nobody has rights on a partition itself; the parent's policy is the only way in, this is the bolt behind it."""
    yield f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"
    yield f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"


CREATE_EVENT = """
CREATE TABLE audit_event (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL REFERENCES tenants_tenant (id),
    at timestamptz NOT NULL,
    action varchar(40) NOT NULL,
    actor_kind varchar(10) NOT NULL,
    actor varchar(80) NOT NULL,
    agent_id uuid,
    member_id uuid,
    grant_id uuid,
    resource_id uuid,
    operation varchar(200) NOT NULL DEFAULT '',
    subject_kind varchar(20) NOT NULL DEFAULT '',
    subject varchar(80) NOT NULL DEFAULT '',
    decision varchar(10) NOT NULL DEFAULT '',
    reasons jsonb NOT NULL DEFAULT '[]',
    outcome varchar(20) NOT NULL DEFAULT '',
    status integer,
    latency_us bigint,
    args_hash varchar(64) NOT NULL DEFAULT '',
    call_id uuid,
    ip varchar(45) NOT NULL DEFAULT '',
    details jsonb NOT NULL DEFAULT '{}',
    body text NOT NULL,
    PRIMARY KEY (tenant_id, id)
) PARTITION BY RANGE (id);
CREATE TABLE audit_event_other PARTITION OF audit_event DEFAULT;
ALTER TABLE audit_event_other ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_event_other FORCE ROW LEVEL SECURITY;
CREATE INDEX audit_event_at ON audit_event (tenant_id, at DESC, id DESC);
CREATE INDEX audit_event_agent ON audit_event (tenant_id, agent_id, at DESC) WHERE agent_id IS NOT NULL;
CREATE INDEX audit_event_member ON audit_event (tenant_id, member_id, at DESC) WHERE member_id IS NOT NULL;
CREATE INDEX audit_event_grant ON audit_event (tenant_id, grant_id, at DESC) WHERE grant_id IS NOT NULL;
CREATE INDEX audit_event_call ON audit_event (tenant_id, call_id) WHERE call_id IS NOT NULL;
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_leaf
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
"""


def ensure(schema_editor: BaseDatabaseSchemaEditor, months_ahead: int = MONTHS_AHEAD) -> None:
    for statement in statements(months_ahead):
        schema_editor.execute(statement, params=None)


def create(apps: object, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """For the migration: the event table, its indexes, its partitions."""
    schema_editor.execute(CREATE_EVENT, params=None)
    ensure(schema_editor)
