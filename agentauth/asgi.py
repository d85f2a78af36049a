"""Data plane: the gateway. `agentauth.embedded.gateway` serves it, behind a proxy of yours or at the edge."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentauth.settings")

import django

django.setup()  # settings and models only: no request of this plane passes through Django

from agentauth.gateway.app import Gateway  # noqa: E402

application = Gateway()
