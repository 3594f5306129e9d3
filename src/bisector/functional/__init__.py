"""The mathematics of margin losses: pure functions on tensors, one idea a file, torch alone.

A loss is three parts: `scores` (how near is an embedding to a class), `margins` (what training does to the
target's score and to the competitors'), `row_losses` (from logits to a number). `reference` puts them together
in the plainest way; `bisector.engine` computes the same numbers faster.
"""
