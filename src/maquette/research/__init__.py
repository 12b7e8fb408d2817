"""From a written plan to a validated, reported experiment: `maquette research`.

    plan_res.md ─ new ─► project/ ─ check ─► validate ─► attempts/ ─ report ─► ml_res.md ─ lint

A workspace is a folder; `workspace.py` says what lies where. Start reading there, then at
`planning/plan.py` (what a plan consists of) and `records.py` (what a run proves), which all share.

    commands.py    the verbs of the command line
    notes.py       what a person says about a project: deviations, known issues
    planning/      Markdown -> Plan, with line numbers; a plan to fill in
    scaffolding/   `new`: a place and a test for every item
    checking/      `check`: the rules a project is held against
    running/       a program in a fresh environment, within limits, under guard
    judging/       what a run shows, and the cause of what it does not
    validating/    `validate`, its attempts; `maquette validate RECIPE`
    reporting/     `report`, written from the records
    numbers/       numbers in texts that point into records; `lint`
"""
