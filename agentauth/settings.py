"""Every knob, read once, typed. Nothing else in the project reads the environment.

A value comes from the environment (`AGENTAUTH_…`, plus the customary `DATABASE_URL` and `REDIS_URL`); a secret
may come from a file named by `…_FILE`. Everything has a default that is safe on one machine.
"""

import os
import secrets
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from agentauth.embedded import paths

BASE_DIR = Path(__file__).resolve().parent.parent


class Knobs(BaseSettings):
    """What an operator may set. Names are those of the environment, in lower case, without the prefix."""

    model_config = SettingsConfigDict(env_prefix="AGENTAUTH_", extra="ignore")

    # The installation
    mode: Literal["demo", "production"] = "demo"
    base_url: str = "http://localhost:8000"
    gateway_url: str = "http://localhost:8001"
    secret_key: str = ""
    demo_password: str = ""
    office_url: str = "http://localhost:8002"  # the demo's upstream
    debug: bool = False

    # Where the truth lives; empty means the embedded servers
    database_url: str = Field(default="", validation_alias="DATABASE_URL")
    database_app_url: str = ""
    database_sequencer_url: str = ""
    database_direct_url: str = ""  # past a pooler in transaction mode, for who listens
    redis_url: str = Field(default="", validation_alias="REDIS_URL")

    # Hosts at private addresses that tenants may nevertheless reach, as `host` or `host:port`
    allowed_hosts_outbound: Annotated[list[str], NoDecode] = []

    # Proxies in front of us, as addresses or networks: what they say of who called (X-Forwarded-For) is believed
    trusted_proxies: Annotated[list[str], NoDecode] = []

    # Limits
    max_body_bytes: int = 10 * 1024 * 1024
    upstream_timeout_seconds: float = 30.0
    access_token_seconds: int = 300
    code_seconds: int = 60
    refresh_token_days: int = 30
    unused_client_days: int = 90  # an agent that introduced itself and was not used expires; 0: never

    # Mail; the outbox of the console when empty
    email_url: str = ""
    email_from: str = "AgentAuth <agentauth@localhost>"

    @field_validator("allowed_hosts_outbound", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        return [str(ip_network(one, strict=False)) for one in value]

    @field_validator("base_url", "gateway_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an origin such as https://auth.example.com")
        return value.rstrip("/")


def _with_secret_files(environ: dict[str, str]) -> None:
    """`NAME_FILE=/run/secrets/x` stands for `NAME=<its content>`, for every name that we read."""
    known = {f"AGENTAUTH_{name.upper()}" for name in Knobs.model_fields} | {
        "DATABASE_URL",
        "REDIS_URL",
    }
    for name in known:
        path = environ.get(f"{name}_FILE")
        if path and name not in environ:
            environ[name] = Path(path).read_text().strip()


_with_secret_files(os.environ)  # type: ignore[arg-type]  # environ quacks like the dict
KNOBS = Knobs()
PRODUCTION = KNOBS.mode == "production"
HOME = paths.home()


def _own_secret(name: str) -> str:
    """A secret of this installation: made once, kept with mode 0600 outside the checkout."""
    path = paths.secrets_dir() / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f"{name}.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        with suppress(FileExistsError):  # another process was first: its secret counts
            os.link(fresh, path)
        fresh.unlink()
        return path.read_text().strip()


# Django
SECRET_KEY = KNOBS.secret_key or _own_secret("django.key")
DEBUG = KNOBS.debug
OUR_HOSTS = frozenset({urlsplit(KNOBS.base_url).hostname or "", "localhost", "127.0.0.1"})
ANY_HOST = not PRODUCTION  # else those, and what tenants have of their own
ALLOWED_HOSTS = ["*"]  # which ones are answered is said by OwnHost, the first middleware
ROOT_URLCONF = "agentauth.urls"
WSGI_APPLICATION = "agentauth.wsgi.application"
APPEND_SLASH = False  # a redirect on a protocol path breaks discovery; pages have their slash in every link
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 4000  # the form of a resource has a field per operation, of 2,000 at most
SITE_ID = None

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "audit",
    "tenants",
    "agentauth.keys",
    "agentauth.agents",
    "agentauth.resources",
    "agentauth.grants",
    "agentauth.oauth",
    "agentauth.api",
    "agentauth.console",
    "agentauth.embedded",
]

MIDDLEWARE = [
    "agentauth.database.patience.Patience",
    "agentauth.oauth.own_host.OwnHost",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "agentauth.console.headers.SecurityHeaders",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "agentauth.console.readable.Readable",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "agentauth.console.frame.frame",
            ],
        },
    }
]


# The database: three roles over one database (see tenants/rls.py). Requests run as the first, which owns nothing.
def _postgres(url: str, role: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "ENGINE": "agentauth.database",
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        "OPTIONS": {"application_name": f"agentauth-{role}", "connect_timeout": 3},
    }
    if not url:
        return settings | {
            "NAME": "agentauth",
            "USER": role,
            "HOST": str(paths.postgres_socket_dir()),
            "PORT": "",
        }
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql"):
        raise SystemExit("DATABASE_URL must begin with postgresql:// (PostgreSQL 15 or newer)")
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    settings["OPTIONS"] |= {key: unquote(value) for key, value in query.items() if key != "host"}
    return settings | {
        "NAME": unquote(parts.path.lstrip("/")) or "agentauth",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.get("host", parts.hostname or "")),
        "PORT": str(parts.port or ""),
    }


def _as_role(own_url: str, role: str) -> dict[str, Any]:
    """A login of its own where the operator gave one; else the owner's login that gives up its rights at once."""
    settings = _postgres(own_url or KNOBS.database_url, role)
    if KNOBS.database_url and not own_url:
        settings["OPTIONS"]["options"] = f"-c role={role}"
    return settings


DATABASES = {
    "default": _as_role(KNOBS.database_app_url, paths.APP_ROLE),
    "sequencer": _as_role(KNOBS.database_sequencer_url, paths.SEQUENCER_ROLE),
    "owner": _postgres(KNOBS.database_url, paths.OWNER_ROLE),
}
DATABASE_DIRECT = _as_role(KNOBS.database_direct_url, paths.APP_ROLE) if KNOBS.database_direct_url else None

# People: sign-in
AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/account/login/"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_LOGOUT_REDIRECT_URL = "/account/login/"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_ADAPTER = "agentauth.console.sign_in.ClosedSignUp"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = None
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "AgentAuth"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not PRODUCTION
DEFAULT_FROM_EMAIL = SERVER_EMAIL = KNOBS.email_from
if KNOBS.email_url:
    _mail = urlsplit(KNOBS.email_url)
    EMAIL_HOST, EMAIL_PORT = _mail.hostname or "", _mail.port or 587
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = (
        unquote(_mail.username or ""),
        unquote(_mail.password or ""),
    )
    EMAIL_USE_TLS = _mail.scheme == "smtp+tls"
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = HOME / "mail"

# Cookies follow the scheme of the base URL, so that http://localhost works and https is strict
_HTTPS = KNOBS.base_url.startswith("https://")
SESSION_COOKIE_NAME = "__Host-agentauth" if _HTTPS else "agentauth"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_NAME = "__Host-agentauth-csrf" if _HTTPS else "agentauth-csrf"
CSRF_TRUSTED_ORIGINS = [KNOBS.base_url]
CSRF_FAILURE_VIEW = "agentauth.console.errors.csrf_failure"
SECURE_HSTS_SECONDS = 31_536_000 if _HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _HTTPS
SECURE_SSL_REDIRECT = False  # TLS ends in front of us; a redirect here would break discovery behind a proxy
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = ["security.W008"]  # SECURE_SSL_REDIRECT: see above

# Static files
STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 300

# REST
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["agentauth.api.authentication.TenantBearer"],
    "DEFAULT_PERMISSION_CLASSES": ["agentauth.api.authentication.HasManagementScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["agentauth.api.reading.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "agentauth.api.problems.problem_details",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "AgentAuth",
    "DESCRIPTION": "Agents, resources, grants, events and exports of one tenant.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [],  # an enum is written where it is used
    "SCHEMA_PATH_PREFIX": r"/api/v1/tenants/[^/]+",
}

# Celery
CELERY_BROKER_URL = KNOBS.redis_url or f"redis+socket://{paths.valkey_socket()}"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 6 * 3600}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]

# Logs: what happened, never what was secret
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "agentauth.console.logs.Discreet",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {"django.server": {"level": "WARNING"}, "asyncio": {"level": "WARNING"}},
}
