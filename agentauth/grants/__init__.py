"""Delegation: what a person has allowed an agent at a resource, until when, and single calls approved one by one.

`grants.py` decides what may be offered and gives, narrows and ends grants; approvals are in `approvals.py`.
"""
