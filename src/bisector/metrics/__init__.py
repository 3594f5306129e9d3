"""What fairness to every class means in numbers."""
