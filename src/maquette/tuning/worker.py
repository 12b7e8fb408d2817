"""Trials in processes of their own: python -m maquette.tuning.worker STUDY_FILE THREADS.

The folder beside the study holds the recipe, the study hands out the trials. Everything goes
through these two, so a worker can be started, killed and replaced at any time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from maquette import errors
from maquette.errors import MaquetteError, RunError

POLL = 0.05
"""Seconds between looks at the workers."""

Process = subprocess.Popen  # str streams


def run_workers(number: int, *, file: Path, threads: int) -> None:
    """Run the trials of a study in `number` processes until all of them are done.

    Raises:
        MaquetteError: what stopped a worker; the others were stopped too, and the trials they
            were at will be made again.
    """
    command = [sys.executable, "-m", "maquette.tuning.worker", str(file), str(threads)]
    workers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    # Through a pipe, so that several live lines do not fight for one terminal.
    relays = [threading.Thread(target=_relay, args=[worker]) for worker in workers]
    for relay in relays:
        relay.start()
    try:
        _wait(workers)
    finally:
        for worker in workers:
            worker.terminate()
        for worker, relay in zip(workers, relays, strict=True):
            worker.wait()
            relay.join()
            assert worker.stdout is not None, "asked for above"
            worker.stdout.close()


def _relay(worker: subprocess.Popen[str]) -> None:
    assert worker.stderr is not None, "asked for above"
    with worker.stderr as lines:
        for line in lines:
            sys.stderr.write(line)


def _wait(workers: Sequence[subprocess.Popen[str]]) -> None:
    """Return when all workers have ended well, or raise what the first to fail says."""
    while any(worker.poll() is None for worker in workers):
        if any(worker.returncode for worker in workers):
            break
        time.sleep(POLL)
    for worker in workers:
        if worker.returncode:
            assert worker.stdout is not None, "asked for above"
            raise _error_of(worker.stdout.read(), status=worker.returncode)


def _error_of(said: str, *, status: int) -> MaquetteError:
    """Return the error that a worker wrote down, or one that tells its exit status."""
    try:
        told = json.loads(said)
        error: MaquetteError = getattr(errors, told["kind"])(told["message"])
    except (ValueError, KeyError, AttributeError):
        return RunError(
            f"A worker of the search ended with status {status}; what it said is above. Finished "
            "trials are kept: the same command goes on, and fewer --workers take less memory."
        )
    return error


def main(arguments: Sequence[str]) -> int:
    """Run trials in this process; write an error to standard output as JSON; return the status."""
    import torch

    from maquette.tuning.search import reopen

    file, threads = arguments
    torch.set_num_threads(int(threads))
    try:
        reopen(Path(file)).run_trials()
    except MaquetteError as error:
        print(json.dumps({"kind": type(error).__name__, "message": str(error)}))  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
