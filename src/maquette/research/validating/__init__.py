"""`validate`: a project's tests and a short run, kept as an attempt; start at validate.py."""
