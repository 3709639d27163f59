"""The results of the commands as JSON, CSV and text, one module per group of commands."""
