"""Django's way to PostgreSQL, with an end to its patience: no page waits for a database that says nothing."""
