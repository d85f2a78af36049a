"""Kits that can be pointed at any issuer, and that we pass."""
