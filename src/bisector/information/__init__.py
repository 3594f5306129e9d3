"""What a category holds: its information amount and the meter that keeps it up to date."""
