"""Before the search: what was asked, the floor, the reference, the first recipes."""
