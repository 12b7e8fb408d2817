"""What a run shows: judge.py names every check, diagnose.py the cause of a failure."""
