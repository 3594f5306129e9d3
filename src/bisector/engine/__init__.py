"""Computes a margin loss; chooses how."""
