"""What stored embeddings say: about the classes, about the examples, and what to do next."""
