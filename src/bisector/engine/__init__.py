"""Computes a margin loss and chooses how; the same numbers as `bisector.functional.reference`."""
