"""What a run keeps: the content-addressed store, the run folder, the record."""
