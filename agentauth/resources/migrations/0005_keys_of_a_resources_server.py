from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("resources", "0004_bound_tokens_only")]

    operations = [
        migrations.AlterField(
            model_name="servercredential", name="secret_hash", field=models.BinaryField(max_length=32, null=True)
        ),
        migrations.AddField(
            model_name="servercredential", name="public_jwk", field=models.JSONField(blank=True, null=True)
        ),
        migrations.AddConstraint(
            model_name="servercredential",
            constraint=models.CheckConstraint(
                condition=models.Q(("secret_hash__isnull", True), ("public_jwk__isnull", True), _connector="XOR"),
                name="a_server_has_a_secret_or_a_key",
            ),
        ),
    ]
