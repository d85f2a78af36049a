"""The control plane: pages for people, the REST API and the authorization server, as WSGI."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentauth.settings")

from django.core.wsgi import get_wsgi_application  # settings must be named first

ordinary = get_wsgi_application()

from agentauth.oauth.lane import Lane  # noqa: E402  # models exist only after the line above

application = Lane(ordinary)
