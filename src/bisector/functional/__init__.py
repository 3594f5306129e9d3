"""The mathematics of margin losses: pure functions on tensors, one idea a file, torch alone."""
