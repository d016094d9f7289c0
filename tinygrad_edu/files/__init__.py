"""Files that survive: atomic writes, safetensors, checkpoints."""
