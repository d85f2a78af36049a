"""django-oauth-toolkit as its tutorial sets it up: stock middleware, PostgreSQL, client_credentials, opaque tokens.

Its one mercy: the client's secret is not hashed. With the PBKDF2 that is the default, a token costs 0.27 s of CPU.
"""

import os
import sys
import time

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import include, path

settings.configure(
    SECRET_KEY="bench",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["DOT_HOST"],
            "USER": os.environ["DOT_USER"],
            "NAME": os.environ["DOT_NAME"],
            "CONN_MAX_AGE": 600,
        }
    },
    OAUTH2_PROVIDER={"SCOPES": {"rooms:read": "See rooms", "introspection": "Introspect"}},
)
django.setup()

urlpatterns = [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]
application = get_wsgi_application()

_EXPIRED = """
INSERT INTO oauth2_provider_accesstoken
    (token, token_checksum, expires, scope, resource, application_id, created, updated)
SELECT md5(n::text), encode(sha256(n::text::bytea), 'hex'), now() - interval '5 days', 'rooms:read', '[]',
    (SELECT id FROM oauth2_provider_application LIMIT 1), now(), now() FROM generate_series(1, %s) n
"""


def clear(rows: int) -> float:
    """Seconds that `cleartokens` takes for so many expired access tokens."""
    from django.core.management import call_command
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_EXPIRED, [rows])
    began = time.monotonic()
    call_command("cleartokens", verbosity=0)
    took = time.monotonic() - began
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM oauth2_provider_accesstoken WHERE expires < now()")
        assert cursor.fetchone() == (0,)
    return took


if __name__ == "__main__":
    from django.core.management import call_command

    if sys.argv[1:2] == ["clear"]:
        print(clear(int(sys.argv[2])))
        sys.exit(0)
    from oauth2_provider.models import Application  # type: ignore[import-not-found]  # in a venv of its own

    call_command("migrate", verbosity=0)
    Application.objects.create(
        name="bench",
        client_id="bench",
        client_secret=os.environ["CLIENT_SECRET"],
        hash_client_secret=False,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )
    sys.exit(0)
