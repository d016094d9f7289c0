"""Training: the loop, what it writes down, and what it will cost."""
