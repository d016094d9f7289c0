"""Architectures, each on a few screens: a model imports the library, never the reverse."""
