"""After the search: finalists, the front once more, one recommended file."""
