"""Results as JSON, CSV and text."""
