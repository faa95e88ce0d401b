"""First-party strategies and runtimes, one technique a file, a folder for each family. Each enters through its own
entry point.
"""
