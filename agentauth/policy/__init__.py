"""May this agent do this, now? Pure: no database, no clock of its own, no Django. Facts in, a decision with reasons out."""
