"""Modules, layers, optimizers and the settings of a run."""
