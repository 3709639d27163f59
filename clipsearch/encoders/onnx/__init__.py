"""Towers as ONNX graphs: written, checked, kept in the cache directory, and run without torch."""
