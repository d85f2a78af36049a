"""django-oauth-toolkit as its tutorial sets it up: stock middleware, PostgreSQL, client_credentials, opaque tokens.

Its one mercy: the client's secret is not hashed. With the PBKDF2 that is the default, a token costs 0.27 s of CPU.
"""

import os
import sys

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

if __name__ == "__main__":
    from django.core.management import call_command
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
