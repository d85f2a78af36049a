"""The control plane as the server sees it: the short lane in front, Django behind it."""

from agentauth.web.threads import Threads
from agentauth.wsgi import application as django

from django.urls import get_resolver  # isort: skip  # models and settings exist only after the line above

from agentauth.oauth.lane import Lane  # isort: skip

_every_view = get_resolver().url_patterns  # read now, or the first who ask would wait seconds for it
application = Lane(Threads(django))
