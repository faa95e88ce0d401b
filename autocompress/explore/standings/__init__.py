"""How things stand: pure functions of what happened."""
