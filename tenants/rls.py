"""The second wall between tenants: row-level security and composite foreign keys.

The first wall is in the queries, which start from `request.tenant`. This one holds when a query forgets: every table
that carries `tenant_id` shows and takes only rows of the tenant named by the transaction's setting `agentauth.tenant`.
A foreign key that ignored the tenant would see through it (constraint checks bypass row-level security), so references
between tenants' tables are composite: `(tenant_id, x_id) → (tenant_id, id)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.apps.registry import Apps
from django.db import connections, models, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from uuid_utils.compat import uuid7

from agentauth.embedded.paths import APP_ROLE, SEQUENCER_ROLE

TENANT_SETTING = "agentauth.tenant"
USER_SETTING = "agentauth.user"
IN_TENANT = f"tenant_id = nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"


def new_id() -> UUID:
    """A UUIDv7: ordered by time, so that indexes grow at one end and partitions follow the clock."""
    return uuid7()


def set_tenant(tenant_id: UUID, using: str = "default") -> None:
    """Let the rest of this transaction see `tenant_id`'s rows; it ends with the transaction, also behind a pooler."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT set_config('{TENANT_SETTING}', %s, true)", [str(tenant_id)])


def set_user(user_id: UUID, using: str = "default") -> None:
    """Let the rest of this transaction see which tenants this user belongs to, nothing else of them."""
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT set_config('{USER_SETTING}', %s, true)", [str(user_id)])


@contextmanager
def in_tenant(tenant_id: UUID, using: str = "default") -> Iterator[None]:
    """A transaction inside one tenant. For tasks, commands and endpoints; pages get theirs from `access.py`."""
    with transaction.atomic(using=using):
        set_tenant(tenant_id, using)
        yield


class TenantForeignKey(models.ForeignKey[Any, Any]):
    """A reference within one tenant. The constraint is composite and made by `SecureTables`, not by Django."""

    def __init__(self, to: Any, on_delete: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = False
        super().__init__(to, on_delete, **kwargs)


class TenantOwned(models.Model):
    """A row of exactly one tenant."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey("tenants.Tenant", models.PROTECT, related_name="%(class)ss", db_index=False)

    class Meta:
        abstract = True


class SecureTables(Operation):
    """Last step of a migration that made tenants' tables: rights, row-level security, composite keys.

    Reads the tables from the migration's own state, so a new model cannot be forgotten: whatever has `tenant_id` is
    secured. `app_rights` gives the application's rights per table where they differ from all four; `sequencer_rights`
    those of the sequencer, which sees all tenants' rows of just these tables.
    """

    reversible = False

    def __init__(
        self,
        app_rights: dict[str, str] | None = None,
        sequencer_rights: dict[str, str] | None = None,
        only: list[str] | None = None,
    ) -> None:
        self.app_rights = app_rights or {}
        self.sequencer_rights = sequencer_rights or {}
        self.only = only

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        kwargs: dict[str, Any] = {}
        if self.app_rights:
            kwargs["app_rights"] = self.app_rights
        if self.sequencer_rights:
            kwargs["sequencer_rights"] = self.sequencer_rights
        if self.only:
            kwargs["only"] = self.only
        return (self.__class__.__name__, [], kwargs)

    def state_forwards(self, app_label: str, state: Any) -> None: ...

    def describe(self) -> str:
        return "Secure tenants' tables: rights, row-level security, composite keys"

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        apps: Apps = to_state.apps
        mine = [
            m
            for m in apps.get_app_config(app_label).get_models(include_auto_created=True)
            if self.only is None or m._meta.model_name in self.only
        ]
        for model in mine:
            for statement in self._statements(model):
                schema_editor.execute(statement)
        for model in mine:
            for statement in self._references(model):
                schema_editor.execute(statement)

    def _statements(self, model: type[models.Model]) -> Iterator[str]:
        table = model._meta.db_table
        rights = self.app_rights.get(table, "SELECT, INSERT, UPDATE, DELETE")
        if rights:
            yield f'GRANT {rights} ON "{table}" TO {APP_ROLE}'
        sequencer = self.sequencer_rights.get(table)
        if sequencer:
            yield f'GRANT {sequencer} ON "{table}" TO {SEQUENCER_ROLE}'
        if not _has_tenant(model):
            return
        yield f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY'
        yield f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY'
        yield f'CREATE POLICY tenant ON "{table}" FOR ALL USING ({IN_TENANT}) WITH CHECK ({IN_TENANT})'
        if sequencer:
            yield f'CREATE POLICY sequencer ON "{table}" FOR ALL TO {SEQUENCER_ROLE} USING (true) WITH CHECK (true)'
        if model._meta.managed and model._meta.pk is not None and model._meta.pk.column == "id":
            yield f'ALTER TABLE "{table}" ADD CONSTRAINT "{table}_own" UNIQUE (tenant_id, id)'

    def _references(self, model: type[models.Model]) -> Iterator[str]:
        table = model._meta.db_table
        for field in model._meta.local_fields:
            if isinstance(field, TenantForeignKey):
                other = field.related_model._meta.db_table
                yield (
                    f'ALTER TABLE "{table}" ADD CONSTRAINT "{table}_{field.column}_own" '
                    f'FOREIGN KEY (tenant_id, "{field.column}") REFERENCES "{other}" (tenant_id, id) '
                    "DEFERRABLE INITIALLY DEFERRED"
                )


def _has_tenant(model: type[models.Model]) -> bool:
    return any(field.column == "tenant_id" for field in model._meta.local_fields)
