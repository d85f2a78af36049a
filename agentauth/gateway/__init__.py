"""The guarded door for agents' calls: who, whether, record, forward. Raw ASGI, no Django request cycle.

`rest.py` and `mcp.py` speak the two protocols, `policy/` decides, nothing here changes what is allowed.
"""
