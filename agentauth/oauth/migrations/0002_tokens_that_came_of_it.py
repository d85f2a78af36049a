from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oauth", "0001_initial")]

    operations = [
        migrations.AddField("authorizationcode", "access_jti", models.UUIDField(null=True)),
        migrations.AddField(
            "authorizationcode", "protocol_scope", models.CharField(blank=True, default="", max_length=60)
        ),
        migrations.AddField("refreshtoken", "access_jti", models.UUIDField(null=True)),
    ]
