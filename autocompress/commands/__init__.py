"""What the smaller commands do: each takes plain arguments and returns plain data for the command line to print."""
