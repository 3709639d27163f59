"""TIFF: the layouts that Pillow decodes correctly, and all the others."""
