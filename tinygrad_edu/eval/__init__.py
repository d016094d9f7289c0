"""Measures that ask what a trained model has learnt."""
