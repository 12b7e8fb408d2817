"""`check`: is everything of the plan there, and nothing else; start at check.py, then rules/."""
