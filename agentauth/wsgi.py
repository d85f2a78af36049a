"""Django as a WSGI application: pages for people, the REST API and the authorization server.

`agentauth.web` serves it, with the short lane in front. Any other WSGI server can too, without that lane.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentauth.settings")

from django.core.wsgi import get_wsgi_application  # settings must be named first

application = get_wsgi_application()
