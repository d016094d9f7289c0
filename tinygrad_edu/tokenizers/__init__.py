"""From text to numbers and back: characters, byte-level BPE, and their files."""
