"""What was refused or asked is rare and looked for often; what was allowed pays nothing for this index."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_proofs_and_runs")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX audit_event_decision ON audit_event (tenant_id, decision, at DESC, id DESC) "
            "WHERE decision IN ('refuse', 'ask')"
        )
    ]
