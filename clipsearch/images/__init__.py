"""From a file's bytes to upright sRGB pixels, and to what the file records about itself."""
