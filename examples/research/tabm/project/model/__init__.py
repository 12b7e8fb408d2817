"""The models that compete, one file each."""
