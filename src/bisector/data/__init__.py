"""Data sets by name, and the long tail made of them."""
