"""Model architectures, each on a few screens: a model takes the library, never the other way round."""
