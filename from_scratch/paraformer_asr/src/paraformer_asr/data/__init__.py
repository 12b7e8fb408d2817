"""Utterances: made up (`toy.py`) or recorded (`manifest.py`, `join.py`), and their batches."""
