"""`report`: ml_res.md from the records; start at report.py."""
