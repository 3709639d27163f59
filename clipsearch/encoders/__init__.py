"""Encoders turn images and words into unit vectors of one space."""
