"""The record: what happened, who did it, and the proof that nobody changed it since.

`actions.py` lists all that can be recorded, `record.py` is the only way in, `sequencer.py` gives each event its place,
`merkle.py`, `checkpoint.py` and `verify.py` are pure. What an event means to a reader is told in the console, not here.
"""
