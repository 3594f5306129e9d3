"""The classifier heads: one file a head."""
