"""Embeddings of a data set: from a checkpoint of ours, a published network or an ONNX file, written as Parquet."""
