"""The catalogue tests: no table, view or function that leaks, whatever migrations come."""

import pytest
from django.db import DatabaseError, connections, transaction

from agentauth.embedded.paths import APP_ROLE, SEQUENCER_ROLE
from tenants.models import Member
from tenants.rls import set_tenant
from tests.cast import acme, assistant, globex, matts_grant

pytestmark = pytest.mark.django_db

# Tables without a tenant, each for a reason: name plates, people's sign-in, what the operator offers, Django's own
WITHOUT_TENANT = {
    "account_emailaddress",
    "account_emailconfirmation",
    "auth_group",
    "auth_group_permissions",
    "auth_permission",
    "django_content_type",
    "django_migrations",
    "django_session",
    "mfa_authenticator",
    "resources_catalogueentry",
    "tenants_signinlink",
    "tenants_tenant",
    "tenants_user",
}


def rows(sql, alias="owner"):
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


TABLES = "pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
HAS_TENANT = (
    "EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND a.attnum > 0)"
)


def test_every_table_has_a_tenant_or_a_reason_not_to():
    without = {name for (name,) in rows(f"SELECT relname FROM {TABLES} AND NOT {HAS_TENANT}")}
    assert without - WITHOUT_TENANT == set()


def test_every_table_with_a_tenant_forces_row_level_security():
    bare = rows(f"SELECT relname FROM {TABLES} AND {HAS_TENANT} AND NOT (relrowsecurity AND relforcerowsecurity)")
    assert bare == []


def test_every_policy_for_the_application_names_the_tenant_both_ways():
    policies = rows(
        "SELECT tablename, policyname, qual, with_check, cmd, roles::text FROM pg_policies WHERE schemaname = 'public'"
    )
    assert len(policies) > 15
    for table, name, qual, check, command, roles in policies:
        if name == "own_membership":
            assert (table, command) == ("tenants_member", "SELECT")
        elif name == "sequencer":
            assert roles == f"{{{SEQUENCER_ROLE}}}"
        else:
            assert "agentauth.tenant" in qual, table
            assert "agentauth.tenant" in check, table


def test_every_reference_between_tenants_tables_is_composite():
    single = rows(
        f"""SELECT conrelid::regclass::text, conname FROM pg_constraint k WHERE contype = 'f'
        AND confrelid IN (SELECT c.oid FROM {TABLES} AND {HAS_TENANT})
        AND NOT EXISTS (SELECT 1 FROM unnest(k.conkey) n JOIN pg_attribute a
                        ON a.attrelid = k.conrelid AND a.attnum = n AND a.attname = 'tenant_id')"""
    )
    assert single == []


def test_every_reference_of_the_models_has_its_composite_key():
    from django.apps import apps

    from tenants.rls import TenantForeignKey

    wanted = {
        (model._meta.db_table, f"{model._meta.db_table}_{field.column}_own")
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, TenantForeignKey)
    }
    found = set(rows("SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f'"))
    assert len(wanted) > 20
    assert wanted - found == set()


def test_every_unique_index_of_a_tenants_table_begins_with_the_tenant():
    others = rows(
        f"""SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        WHERE c.oid IN (SELECT c.oid FROM {TABLES} AND {HAS_TENANT}) AND i.indisunique
        AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
                        AND a.attname = 'tenant_id')"""
    )
    # A primary key on `id` alone is a UUIDv7 made by us: it cannot collide, so it tells nobody anything
    assert [name for (name,) in others if not name.endswith("_pkey")] == []


def test_no_view_or_definer_function_goes_around_the_wall():
    assert (
        rows("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')") == []
    )
    definers = rows(
        "SELECT proname, prosrc, proconfig::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
    )
    # Two turn partitions by the clock: they read the catalogue and no row of anybody
    assert {name for name, _, _ in definers} == {"oauth_make_partitions", "oauth_drop_partition"}
    for name, source, config in definers:
        assert "search_path=pg_catalog, public" in config, name
        assert "tenant_id" not in source and "FROM public." not in source, name


@pytest.mark.parametrize("role", [APP_ROLE, SEQUENCER_ROLE])
def test_the_runtime_roles_own_nothing_and_cannot_bypass(role):
    [(superuser, bypass, createrole, createdb)] = rows(
        f"SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = '{role}'"
    )
    assert not (superuser or bypass or createrole or createdb)
    owned = f"SELECT relname FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = '{role}')"
    assert rows(owned) == []
    assert rows(f"SELECT has_schema_privilege('{role}', 'public', 'CREATE')") == [(False,)]
    truncatable = f"SELECT relname FROM {TABLES} AND has_table_privilege('{role}', c.oid, 'TRUNCATE')"
    assert rows(truncatable) == []


def test_the_connections_run_as_their_roles():
    assert rows("SELECT current_user", "default") == [(APP_ROLE,)]
    assert rows("SELECT current_user", "sequencer") == [(SEQUENCER_ROLE,)]


def test_a_second_tenant_sees_no_row_of_the_first():
    from django.apps import apps

    first = acme()
    agent = assistant(first)
    matts_grant(first, agent)
    globex()  # from here on the transaction is inside Globex
    seen = {}
    for model in apps.get_models():
        if any(field.column == "tenant_id" for field in model._meta.local_fields):
            seen[model._meta.db_table] = model._base_manager.filter(tenant_id=first.tenant.id).count()
    assert len(seen) > 15
    assert {table: count for table, count in seen.items() if count} == {}


def test_without_a_tenant_nothing_is_seen():
    house = acme()
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT set_config('agentauth.tenant', '', true), set_config('agentauth.user', '', true)")
    assert Member.objects.count() == 0
    set_tenant(house.tenant.id)
    assert Member.objects.count() == 3


def test_a_row_cannot_be_written_into_or_moved_to_another_tenant():
    first, second = acme(), globex()
    set_tenant(first.tenant.id)
    with pytest.raises(DatabaseError), transaction.atomic():
        Member.objects.filter(pk=first.owner.pk).update(tenant=second.tenant)
    with pytest.raises(DatabaseError), transaction.atomic():
        Member.objects.create(tenant=second.tenant, user=first.owner.user)


def test_a_reference_to_another_tenants_row_is_refused_by_the_database():
    first = acme()
    agent = assistant(first)
    second = globex()
    second.tenant.credentials.create(agent_id=agent.id, kind="secret")
    with connections["default"].cursor() as cursor, pytest.raises(DatabaseError, match="_own"):
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@pytest.mark.parametrize("statement", ["UPDATE audit_event SET body = ''", "DELETE FROM audit_event"])
def test_the_application_cannot_change_the_record(statement):
    house = acme()
    before = len(house.events())
    with (
        pytest.raises(DatabaseError, match="permission denied"),
        transaction.atomic(),
        connections["default"].cursor() as cursor,
    ):
        cursor.execute(statement)
    assert len(house.events()) == before > 0


@pytest.mark.parametrize("table", ["audit_event", "audit_leaf", "audit_checkpoint"])
def test_not_even_the_owner_changes_a_line(table):
    guarded = rows(f"SELECT tgenabled FROM pg_trigger WHERE tgrelid = '{table}'::regclass AND tgname = 'append_only'")
    assert guarded == [("O",)]


def test_a_person_sees_their_own_memberships_before_entering_a_tenant():
    from tenants.access import memberships

    house = acme()
    globex()
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT set_config('agentauth.tenant', '', true)")
    assert [member.tenant.slug for member in memberships(house.members["matt"].user)] == ["acme"]
