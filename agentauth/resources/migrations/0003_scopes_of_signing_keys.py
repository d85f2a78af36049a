"""Signing keys over REST get scopes of their own: tenants that are there already find them at AgentAuth's API."""

from typing import Any

from django.db import migrations

from tenants.rls import set_tenant

SCOPES = {
    "keys:read": ("See signing keys", "read"),
    "keys:write": ("Make and withdraw signing keys", "dangerous"),
}


def add(apps: Any, editor: Any) -> None:
    alias = editor.connection.alias
    resources, scopes = (apps.get_model("resources", name).objects.using(alias) for name in ("Resource", "Scope"))
    for tenant in apps.get_model("tenants", "Tenant").objects.using(alias).values_list("id", flat=True):
        set_tenant(tenant, alias)
        for resource in resources.filter(tenant_id=tenant, kind="management"):
            for name, (words, risk) in SCOPES.items():
                said = {"words": words, "risk": risk}
                scopes.get_or_create(tenant_id=tenant, resource=resource, name=name, defaults=said)


class Migration(migrations.Migration):
    dependencies = [("resources", "0002_server_credentials")]

    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
