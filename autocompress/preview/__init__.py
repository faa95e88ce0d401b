"""``search --dry-run``: what a search would do, found out without one."""
