"""Which recipe comes next."""
