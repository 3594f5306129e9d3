"""Optimisers that cost what the gradients cost; torch alone."""
