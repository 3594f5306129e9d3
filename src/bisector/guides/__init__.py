"""What moves a boundary: a number per class turned into pairwise margins."""
