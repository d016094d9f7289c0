"""Debugging: what a run that goes wrong can be asked."""
