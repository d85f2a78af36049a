"""The Django project and its domain: who may act, what can be reached, what was allowed, and the two doors in."""
