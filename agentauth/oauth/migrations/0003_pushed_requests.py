import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import tenants.rls


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial"), ("oauth", "0002_tokens_that_came_of_it"), ("tenants", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="PushedRequest",
            fields=[
                (
                    "id",
                    models.UUIDField(default=tenants.rls.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("uri_hash", models.BinaryField(max_length=32)),
                ("parameters", models.JSONField()),
                ("browser", models.CharField(blank=True, default="", max_length=64)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField()),
                ("spent_at", models.DateTimeField(blank=True, null=True)),
                (
                    "agent",
                    tenants.rls.TenantForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="agents.agent",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="%(class)ss",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="oauth_pushe_expires_4342aa_idx")],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "uri_hash"), name="one_pushed_request_per_hash")
                ],
            },
        ),
        tenants.rls.SecureTables(only=["pushedrequest"]),
    ]
