"""Weights, activations and caches of few bits."""
