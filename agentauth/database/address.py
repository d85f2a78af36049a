"""Where the database is, in libpq's words: for connections that are not Django's."""

from django.conf import settings
from psycopg.conninfo import make_conninfo


def conninfo(name: str, *, direct: bool = False) -> str:
    """Where Django's `default` leads, for an `application_name`; `direct`, past the pooler if there is a way past."""
    alias = (settings.DATABASE_DIRECT if direct else None) or settings.DATABASES["default"]
    named = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    given = {ours: alias[theirs] for ours, theirs in named.items() if alias.get(theirs)}
    return make_conninfo(**(alias.get("OPTIONS", {}) | {"connect_timeout": 2, "application_name": name} | given))
