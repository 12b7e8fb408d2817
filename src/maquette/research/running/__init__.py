"""A program in a fresh environment, within limits and under guard; start at sandbox.py."""
