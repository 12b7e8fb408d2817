"""One test file per item of the plan, and one of a whole run: `python -m pytest`."""
