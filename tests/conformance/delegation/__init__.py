"""Delegation by token exchange (RFC 8693): cases as data, a runner, and an adapter for each issuer. See README.md."""
