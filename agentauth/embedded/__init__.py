"""The one-machine default: a real PostgreSQL and a real Valkey, the supervisor of all processes, and the demo data.

Nothing outside this room knows whether a server is embedded: settings.py asks `paths` where the sockets are, and
DATABASE_URL and REDIS_URL replace both. Only the servers' binaries are used, never the Python layers around them.
"""
