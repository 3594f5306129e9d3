"""Tables of embeddings: read from Parquet, Arrow, text, arrays and tensors, in chunks or whole; and written."""

from bisector.data.tables.dataset import Chunk, StoredEmbeddings, is_embeddings, open_embeddings
from bisector.data.tables.embedding_table import (
    EmbeddingTable,
    read_embeddings,
    whole_table,
    write_embeddings,
)
from bisector.data.tables.reader import Part

__all__ = [
    "Chunk",
    "EmbeddingTable",
    "Part",
    "StoredEmbeddings",
    "is_embeddings",
    "open_embeddings",
    "read_embeddings",
    "whole_table",
    "write_embeddings",
]
