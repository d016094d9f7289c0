"""From a text predictor to an assistant: each algorithm whole in one file."""
