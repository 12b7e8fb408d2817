"""From the files to rows that a model can read."""
