"""Copies of and links to images, outside the library."""
