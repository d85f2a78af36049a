"""Subtree roots for fast proofs; which worker holds an export and which leaves it looks through."""

from django.db import migrations, models
from django.db.models.deletion import PROTECT

from tenants.rls import SecureTables


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial"), ("tenants", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Node",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "level", "index", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("level", models.SmallIntegerField()),
                ("index", models.BigIntegerField()),
                ("hash", models.BinaryField(max_length=32)),
                (
                    "tenant",
                    models.ForeignKey(db_index=False, on_delete=PROTECT, related_name="+", to="tenants.tenant"),
                ),
            ],
            options={"db_table": "audit_node"},
        ),
        migrations.AddField("export", "first_index", models.BigIntegerField(null=True)),
        migrations.AddField("export", "end_index", models.BigIntegerField(null=True)),
        migrations.AddField("export", "run", models.UUIDField(null=True)),
        SecureTables(
            only=["node"],
            app_rights={"audit_node": "SELECT"},
            sequencer_rights={"audit_node": "SELECT, INSERT"},
        ),
        migrations.RunSQL(
            "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_node "
            "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
        ),
        # A queue is emptied all the time: let vacuum follow it closely
        migrations.RunSQL(
            "ALTER TABLE audit_unsequenced SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)"
        ),
    ]
