"""Evidence to take away: a part of the record as a file, with what it takes to verify it without us.

`requesting.py` takes orders, `running.py` does them in slices that survive a killed worker, `bundle.py` puts the files
together. What the bundle proves is checked by `audit/verify.py`, which every bundle carries.
"""
