"""Sorts pictures by labels: prompts to prototypes, stored vectors to predictions, a few examples to a classifier."""
