"""What a model is worth on rows that it has not seen."""
