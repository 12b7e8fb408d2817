"""Checks of the run as a process: how it ended, what it took, what it printed, wrote and left."""

from __future__ import annotations

from maquette.research.judging.verdict import GIB, Case, Verdict, last_line, shown


def ends_well(case: Case) -> Verdict:
    """The program imports, runs, and ends by itself with exit code 0."""
    evidence, name = case.evidence, "run ends"
    if evidence.ended != "exit":
        stopped = {
            "time_limit": "stopped at the time limit",
            "memory_limit": "stopped at the memory limit",
            "output_limit": "stopped, as it printed without end",
        }[evidence.ended]
        return Verdict(name, False, stopped, "see the diagnosis")
    if evidence.exit_code != 0:
        said = last_line(evidence.stderr_tail) or "no message"
        found = f"exit code {evidence.exit_code}: {said}"
        return Verdict(name, False, found, "see the diagnosis")
    return Verdict(name, True, "exit code 0")


def within_time(case: Case) -> Verdict:
    """It took no longer than the limit."""
    seconds, limit = case.evidence.seconds, case.limits.seconds
    found = f"{seconds:.1f} s of at most {limit:g} s"
    if case.evidence.ended != "time_limit":
        return Verdict("time", True, found)
    return Verdict("time", False, found, "train on less, or raise --time-limit")


def within_memory(case: Case) -> Verdict:
    """Its whole process tree stayed below the limit, and its tensors below that of the GPU."""
    evidence, limits = case.evidence, case.limits
    gpu, gpu_limit = evidence.gpu_peak_bytes, limits.gpu_memory_bytes
    found = (
        f"peak {evidence.peak_bytes / GIB:.2f} GiB of at most {limits.memory_bytes / GIB:.3g} GiB"
    )
    if gpu is not None:
        found += f"; GPU {gpu / GIB:.2f} GiB"
        found += f" of at most {gpu_limit / GIB:.3g} GiB" if gpu_limit is not None else ""
    if evidence.ended == "memory_limit":
        return Verdict("memory", False, found, "use a smaller batch, or raise --memory-limit")
    if gpu is not None and gpu_limit is not None and gpu > gpu_limit:
        return Verdict("memory", False, found, "use a smaller batch, or raise --gpu-memory-limit")
    return Verdict("memory", True, found)


def says_something(case: Case) -> Verdict:
    """It prints progress. Silence is a note beside a record, and a failure without one."""
    evidence, name = case.evidence, "output"
    if evidence.ended == "output_limit":
        return Verdict(name, False, "printed more than the limit", "print once per epoch")
    if evidence.stdout_tail.strip() or evidence.stderr_tail.strip():
        return Verdict(name, True, "printed something")
    if evidence.record is not None:
        return Verdict(name, True, "printed nothing; a line per epoch would help its reader")
    remedy = 'call main() at the end of run.py, below `if __name__ == "__main__":`'
    return Verdict(name, False, "printed nothing and left no record", _ended_well(case, remedy))


def stays_inside(case: Case) -> Verdict:
    """It changes nothing outside its project, its output folder and its data cache."""
    outside = case.evidence.wrote_outside
    if not outside:
        return Verdict("files", True, "changed nothing outside the project")
    found = f"tried to change {shown(outside)}"
    return Verdict("files", False, found, "write below --output, and data below RESEARCH_DATA")


def leaves_record(case: Case) -> Verdict:
    """It leaves run.json, in the form of records.py."""
    record = case.evidence.record
    if record is not None:
        return Verdict("record", True, f"run.json with {len(record.trainings)} trainings")
    found = case.evidence.record_problem or "no run.json in the output folder"
    remedy = "write it with utils/record.py at the end of run.py, below --output"
    return Verdict("record", False, found, _ended_well(case, remedy))


def _ended_well(case: Case, remedy: str) -> str:
    """Return a remedy for a run that went through; another one came to no end of its own."""
    return remedy if case.evidence.exit_code == 0 else "see the diagnosis"
