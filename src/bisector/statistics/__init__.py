"""Streaming moments, covariance shrinkage, correlation: torch alone, nothing about classifiers."""
