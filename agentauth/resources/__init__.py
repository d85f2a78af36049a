"""What can be reached: REST APIs and MCP servers, their scopes in people's words and their operations.

`openapi.py` and `mcp_tools.py` read what a server offers, `suggest.py` proposes scopes and risk classes. Who may reach
it is not decided here.
"""
