import django.db.models.deletion
import django.utils.timezone
import tenants.rls
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0001_initial"),
        ("grants", "0001_initial"),
        ("oauth", "0003_pushed_requests"),
        ("resources", "0001_initial"),
        ("tenants", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeviceRequest",
            fields=[
                ("id", models.UUIDField(default=tenants.rls.new_id, editable=False, primary_key=True, serialize=False)),
                ("device_hash", models.BinaryField(max_length=32)),
                ("user_hash", models.BinaryField(max_length=32)),
                ("scope", models.TextField()),
                ("protocol_scope", models.CharField(blank=True, default="", max_length=60)),
                ("auth_time", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("expires_at", models.DateTimeField()),
                ("interval", models.PositiveSmallIntegerField(default=5)),
                ("polled_at", models.DateTimeField(blank=True, null=True)),
                ("allowed_at", models.DateTimeField(blank=True, null=True)),
                ("refused_at", models.DateTimeField(blank=True, null=True)),
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
                    "grant",
                    tenants.rls.TenantForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="grants.grant",
                    ),
                ),
                (
                    "member",
                    tenants.rls.TenantForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.member",
                    ),
                ),
                (
                    "resource",
                    tenants.rls.TenantForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="resources.resource",
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
                "indexes": [models.Index(fields=["expires_at"], name="oauth_devic_expires_f34e9c_idx")],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "device_hash"), name="one_device_request_per_hash"),
                    models.UniqueConstraint(fields=("tenant", "user_hash"), name="one_device_request_per_user_code"),
                ],
            },
        ),
        tenants.rls.SecureTables(only=["devicerequest"]),
    ]
