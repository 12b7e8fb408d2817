"""plan.py says what a plan consists of, plan_reading.py makes one from Markdown."""
