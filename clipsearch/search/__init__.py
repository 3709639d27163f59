"""From what a person asks for to hits."""
