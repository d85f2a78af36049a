"""Organisations and their people: Tenant, User, Member, roles, sign-in links, and the wall between tenants.

`access.py` has the doors (who may come in), `rls.py` the second wall (row-level security), `revocation.py` the list of
what has been stopped. What a person may allow an agent is not here but in `agentauth/grants`.
"""
