"""A trained classifier put to use: predictions, one file for other programs, and a card that says what it is."""
