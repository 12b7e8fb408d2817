"""Numbers in texts that point into records, and `lint`, which compares them."""
