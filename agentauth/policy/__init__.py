"""May this agent do this, now? Pure: no database, no own clock, no Django. Facts in, a decision with reasons out.

`facts.py` says what must be known, `evaluate.py` decides, `decision.py` holds the closed list of reasons and what would
fix each. A constraint of a grant is one file in `conditions/`.
"""
