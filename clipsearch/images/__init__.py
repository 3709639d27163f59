"""Images: from a file's bytes to upright sRGB pixels and the facts that the file records."""
