"""Signing keys of tenants and the key ring that seals secrets at rest: create, rotate, retire, publish.

Clients' public keys are not here but with the agents they prove (`agents/`).
"""
