"""First-party strategies and runtimes, one technique a file. Each enters through its own entry point."""
