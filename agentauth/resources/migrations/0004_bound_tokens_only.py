"""A resource may take bound tokens only (RFC 9449, RFC 9728)."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("resources", "0003_scopes_of_signing_keys")]

    operations = [
        migrations.AddField("resource", "dpop_bound_access_tokens_required", models.BooleanField(default=False)),
    ]
