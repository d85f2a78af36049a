"""Tables of things that end, partitioned by when they end: what has ended is dropped as a whole, not row by row.

The runtime role makes and drops partitions through two functions that look at the clock and the catalogue, never at a
row. A row beyond the partitions that were made ahead lands in a default one, so that a stopped clock loses nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from django.apps.registry import Apps
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Model

from agentauth.embedded.paths import APP_ROLE
from tenants.rls import IN_TENANT, TenantForeignKey

AHEAD = 4  # partitions made beyond the one of today


@dataclass(frozen=True, slots=True)
class Expiring:
    """A table, the column that its rows are parted by, which never changes, and how many days a partition holds.

    `life` is how many days a row may still count after that time; only `created_at` needs one.
    """

    table: str
    key: str
    days: int = 1
    life: int = 0


TABLES = (
    Expiring("oauth_spentonce", "expires_at"),
    Expiring("oauth_authorizationcode", "expires_at"),
    Expiring("oauth_pushedrequest", "created_at", life=1),  # its end moves once a browser has it
    Expiring("oauth_devicerequest", "expires_at"),
    Expiring("oauth_backchannelrequest", "expires_at"),
    Expiring("oauth_refreshtoken", "family_expires_at", days=7),
)
KEPT_DAYS = 1  # beyond the end, so that a late replay is still told from an unknown code

# A partition's name ends in the first day that it holds. Days are UTC, counted from 1970 so that weeks never shift.
_MAKE = f"""
CREATE FUNCTION oauth_make_partitions() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public SET lock_timeout = '100ms' SET timezone = 'UTC' AS $$
DECLARE
    one record; first date; name text;
BEGIN
    FOR one IN SELECT * FROM (VALUES
        {", ".join(f"('{one.table}', {one.days})" for one in TABLES)}
    ) AS expiring (parent, days) LOOP
        first := current_date - (current_date - date '1970-01-01') % one.days;
        FOR step IN 0..{AHEAD} + CASE WHEN one.days > 1 THEN 2 ELSE 0 END LOOP
            name := one.parent || to_char(first, '_YYYYMMDD');
            IF to_regclass('public.' || name) IS NULL THEN
                EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                    name, one.parent, first, first + one.days);
                EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
            END IF;
            first := first + one.days;
        END LOOP;
    END LOOP;
END $$
"""
_DROP = f"""
CREATE FUNCTION oauth_drop_partition(parent text, first date) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public SET lock_timeout = '100ms' SET timezone = 'UTC' AS $$
DECLARE
    days integer;
BEGIN
    SELECT expiring.days + expiring.life INTO days FROM (VALUES
        {", ".join(f"('{one.table}', {one.days}, {one.life})" for one in TABLES)}
    ) AS expiring (parent, days, life) WHERE expiring.parent = oauth_drop_partition.parent;
    IF days IS NULL OR first + days + {KEPT_DAYS} > current_date
            OR to_regclass('public.' || parent || to_char(first, '_YYYYMMDD')) IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE public.%I', parent || to_char(first, '_YYYYMMDD'));
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$
"""


def part_all(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """For the migration: every table of `TABLES` becomes a partitioned one with the same rows."""
    models = {model._meta.db_table: model for model in apps.get_app_config("oauth").get_models()}
    for one in TABLES:
        model = models[one.table]
        for statement in (*_rebuilt(one, model), *_walled(one.table)):
            schema_editor.execute(statement, params=None)
        for named in (*model._meta.indexes, *model._meta.constraints):
            schema_editor.execute(named.create_sql(model, schema_editor), params=None)
    for function in (_MAKE, _DROP):
        schema_editor.execute(function, params=None)
    for name in ("oauth_make_partitions()", "oauth_drop_partition(text, date)"):
        schema_editor.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC", params=None)
        schema_editor.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {APP_ROLE}", params=None)
    schema_editor.execute("SELECT oauth_make_partitions()", params=None)


def _rebuilt(one: Expiring, model: type[Model]) -> Iterator[str]:
    old, new = one.table, f"{one.table}_parted"
    yield f"ALTER TABLE {old} NO FORCE ROW LEVEL SECURITY"  # or its owner would see no row to take over
    yield f"CREATE TABLE {new} (LIKE {old} INCLUDING DEFAULTS) PARTITION BY RANGE ({one.key})"
    yield f"CREATE TABLE {old}_other PARTITION OF {new} DEFAULT"
    yield f"INSERT INTO {new} SELECT * FROM {old}"
    yield f"DROP TABLE {old}"
    yield f"ALTER TABLE {new} RENAME TO {old}"
    yield f"ALTER TABLE {old} ADD CONSTRAINT {old}_pkey PRIMARY KEY (tenant_id, id, {one.key})"
    yield f"ALTER TABLE {old} ADD FOREIGN KEY (tenant_id) REFERENCES tenants_tenant (id)"
    for field in model._meta.local_fields:
        if isinstance(field, TenantForeignKey):
            yield (
                f"ALTER TABLE {old} ADD CONSTRAINT {old}_{field.column}_own FOREIGN KEY (tenant_id, {field.column}) "
                f"REFERENCES {field.related_model._meta.db_table} (tenant_id, id) DEFERRABLE INITIALLY DEFERRED"
            )


def _walled(table: str) -> Iterator[str]:
    """Nobody has rights on a partition itself; the parent's policy is the only way in, this is the bolt behind it."""
    yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP_ROLE}"
    for each in (table, f"{table}_other"):
        yield f"ALTER TABLE {each} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    yield f"CREATE POLICY tenant ON {table} FOR ALL USING ({IN_TENANT}) WITH CHECK ({IN_TENANT})"
