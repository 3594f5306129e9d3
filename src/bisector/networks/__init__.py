"""The networks that turn examples into embeddings: one file a network, and `backbones` that builds them by name."""
