"""How long families train, what there is time for, and when to stop."""
