"""Measuring stored embeddings that do not fit into memory: leaves, a merge tree, and who works it off."""
