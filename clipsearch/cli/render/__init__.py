"""The results of the commands as CSV and text, one module per group; as JSON where `export` does not have it."""
