"""Tokens of issuers that a tenant trusts besides itself (RFC 7523): reading them, and whom they mean here.

What they are good for is in `grants/` (jwt_bearer, token_exchange) and in `client_authentication`.
"""
