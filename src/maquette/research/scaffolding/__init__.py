"""`new`: from a plan to a project with a place and a test for every item; start at scaffold.py."""
