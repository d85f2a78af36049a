"""Commands of the record, one per file."""
