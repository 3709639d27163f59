"""`clipsearch serve`: one warm library for a web page, programs and colleagues."""
