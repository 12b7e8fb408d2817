"""The loss and the loop that lowers it."""
