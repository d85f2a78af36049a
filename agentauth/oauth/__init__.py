"""The authorization server: every tenant an OAuth 2.1 issuer of its own, one file per endpoint, one per grant type.

Names here are the RFCs' (client, scope, aud, act). It never decides what is allowed, it asks `policy/` and `grants/`.
"""
