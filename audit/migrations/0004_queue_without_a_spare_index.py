"""Every event passes through the queue: an index and a check less. `audit_event`, written with it, has both."""

from django.db import migrations, models
from django.db.models.deletion import PROTECT


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_refusals_index")]

    operations = [
        migrations.AlterField(
            "unsequenced",
            "tenant",
            models.ForeignKey(
                db_constraint=False, db_index=False, on_delete=PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
        migrations.RunSQL("ALTER TABLE audit_unsequenced DROP CONSTRAINT audit_unsequenced_own"),
    ]
