#!/usr/bin/env python
"""Django's command line for AgentAuth."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentauth.settings")
    if sys.argv[1:2] == ["up"]:  # the settings hold the addresses, and those follow from which ports are free
        from agentauth.embedded import ports

        try:
            ports.claim()
        except ports.NoFreePort as problem:
            sys.exit(str(problem))
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
