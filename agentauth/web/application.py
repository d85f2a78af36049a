"""The control plane as the server sees it: the short lane in front, Django behind it."""

from agentauth.web.threads import Threads
from agentauth.wsgi import application as django

from agentauth.oauth.lane import Lane  # isort: skip  # models exist only after the line above

application = Lane(Threads(django))
