"""Embeddings that somebody stored, read as a stream: Parquet, Arrow, archives and arrays, here or behind a URL."""

from bisector.data.stored.chunk import Chunk
from bisector.data.stored.open import open_embeddings
from bisector.data.stored.part import Part
from bisector.data.stored.stored import StoredEmbeddings, lines

__all__ = ["Chunk", "Part", "StoredEmbeddings", "lines", "open_embeddings"]
