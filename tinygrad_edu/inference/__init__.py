"""Inference: from a model's logits to text."""
