import django.db.models.deletion
import django.utils.timezone
import tenants.rls
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0001_initial"),
        ("grants", "0001_initial"),
        ("oauth", "0004_device_requests"),
        ("resources", "0001_initial"),
        ("tenants", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Disclosure",
            fields=[
                ("id", models.UUIDField(default=tenants.rls.new_id, editable=False, primary_key=True, serialize=False)),
                ("scope", models.CharField(max_length=20)),
                ("allowed_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
        migrations.AddField(
            model_name="devicerequest",
            name="access_jti",
            field=models.UUIDField(null=True),
        ),
        migrations.AddIndex(
            model_name="authorizationcode",
            index=models.Index(fields=["tenant", "access_jti"], name="oauth_autho_tenant__2c2f06_idx"),
        ),
        migrations.AddIndex(
            model_name="devicerequest",
            index=models.Index(fields=["tenant", "access_jti"], name="oauth_devic_tenant__9cb438_idx"),
        ),
        migrations.AddField(
            model_name="disclosure",
            name="agent",
            field=tenants.rls.TenantForeignKey(
                db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="agents.agent"
            ),
        ),
        migrations.AddField(
            model_name="disclosure",
            name="member",
            field=tenants.rls.TenantForeignKey(
                db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="tenants.member"
            ),
        ),
        migrations.AddField(
            model_name="disclosure",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="%(class)ss",
                to="tenants.tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="disclosure",
            constraint=models.UniqueConstraint(fields=("tenant", "agent", "member", "scope"), name="disclosed_once"),
        ),
        tenants.rls.SecureTables(only=["disclosure"]),
    ]
