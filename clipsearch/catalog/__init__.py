"""The catalog: one SQLite file that holds everything a library knows, vectors included."""
