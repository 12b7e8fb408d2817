"""`maquette tune`: tries recipes until the best is found. Start at search.py, the whole path.

    space.py    which recipe keys are searched, between what
    study.py    the trials so far, kept by Optuna in one SQLite file
    trial.py    one trial: a recipe is trained, watched, and stopped early when it falls behind
    worker.py   trials in a process of their own, for `--workers`
    results.py  the best recipe as a file, the page, the tracking store

Optuna is imported when a study is opened.
"""
