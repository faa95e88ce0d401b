"""A task that needs nothing: real data small enough to ship with scikit-learn."""
