"""Training through Lightning: the module, the callback, the comparison of heads."""
