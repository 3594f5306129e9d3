"""How fast the losses are and how much memory they take, beside others' and beside what the machine can do."""
