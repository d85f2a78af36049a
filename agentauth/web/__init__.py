"""The control plane's way in: a server that is not made to wait, the short lane, and Django in threads behind it.

Nothing here decides anything; requests are only taken, handed on and answered. The gateway speaks by `protocol.py` too.
"""
