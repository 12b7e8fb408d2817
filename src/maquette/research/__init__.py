"""From a written plan to a validated, reported experiment: `maquette research`.

    plan_res.md ─ new ─► project/ ─ check ─► validate ─► attempts/ ─ report ─► ml_res.md ─ lint

A workspace is a folder; `workspace.py` says what lies where. Start reading there, then at `plan.py`
(what a plan consists of) and `records.py` (what a run proves), which all commands share.

    plan_reading.py   Markdown -> Plan, with line numbers        formula.py    what a formula names
    plan_outline.py   headings, fields, formulas, lines          plan_items.py one item
    plan_values.py    what a field may say                       latex_words.py
    template.py       a plan to fill in                          scaffold.py   `new`
    check.py, rules/  `check`: is everything of the plan there   sources.py    Python files as trees
    sandbox.py        a program in a fresh environment, watched  guard.py      inside that program
    judge.py          what a validation run shows                validate.py   `validate`, attempts
    recipe_run.py     `maquette validate RECIPE`, judged alike
    report.py         `report`; its parts are in report_*.py     summary.py    means, differences
    references.py     a number that points into a record         lint.py       `lint`
    marked.py         where a Markdown text shows numbers
    commands.py       the verbs of the command line
"""
