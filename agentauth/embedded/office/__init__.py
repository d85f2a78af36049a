"""The demo's office: a small real API and MCP server that stands for whatever somebody puts behind the gateway.

A process of its own (`python -m agentauth.embedded.office --port N`) that shares nothing with the product but a bearer
key in the secrets folder. It believes nobody without that key, and learns who calls for whom from the identity
assertion, which it verifies with the tenant's published keys.
"""
