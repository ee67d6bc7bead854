"""Measurements of taskapp, and the data they need; README.md says how to repeat them."""
