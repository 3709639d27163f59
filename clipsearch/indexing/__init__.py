"""One index run: what walks find, what changed, what is read and encoded, and how it is recorded."""
