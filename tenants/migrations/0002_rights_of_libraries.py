"""The application's rights on tables that libraries made: sign-in, sessions, content types. None of them has a tenant."""

from django.db import migrations

from agentauth.embedded.paths import APP_ROLE

TABLES = (
    "account_emailaddress",
    "account_emailconfirmation",
    "django_content_type",
    "django_session",
    "mfa_authenticator",
)


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0001_initial"),
        ("account", "0009_emailaddress_unique_primary_email"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("mfa", "0003_authenticator_type_uniq"),
        ("sessions", "0001_initial"),
    ]

    operations = [
        *(
            migrations.RunSQL(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP_ROLE}",
                migrations.RunSQL.noop,
            )
            for table in TABLES
        ),
        migrations.RunSQL(f"GRANT SELECT ON django_migrations TO {APP_ROLE}", migrations.RunSQL.noop),
    ]
