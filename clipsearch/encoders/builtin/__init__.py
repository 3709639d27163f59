"""The encoder that works offline. It is not CLIP."""
