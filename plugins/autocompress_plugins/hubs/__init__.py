"""Where models have names: what is called so becomes a task, with the data that are given for it."""
