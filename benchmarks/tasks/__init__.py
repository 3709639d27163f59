"""What workers run. Each module owns its heavy imports, each function returns what runs a round."""
