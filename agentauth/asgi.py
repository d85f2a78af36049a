"""Data plane: the gateway. Run it with uvicorn, one process a core, behind a proxy of yours or at the edge.

Addresses in X-Forwarded-For count only if uvicorn was told which proxies to believe (`--forwarded-allow-ips`).
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentauth.settings")

import django

django.setup()  # settings and models only: no request of this plane passes through Django

from agentauth.gateway.app import Gateway  # noqa: E402

application = Gateway()
