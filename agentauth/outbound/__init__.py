"""The guarded way out: every fetch of an address that a tenant named goes through here, and only to public hosts.

`addresses.py` says which addresses are allowed, `fetch.py` fetches small documents, `connector.py` is for the gateway.
"""
