from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("oauth", "0007_parted_by_expiry")]

    operations = [
        migrations.AddField(
            model_name="backchannelrequest",
            name="acr_values",
            field=models.CharField(blank=True, default="", max_length=2048),
        ),
    ]
