"""What this machine is, and what follows from it: device, precision, threads, memory.

- `choose.py`: device and precision for a recipe.
- `apple.py`: chips of Apple and what each generation does well.
- `memory.py`: what a training may take, what it takes, its peak, and running out of it.
- `selftest.py`: does the device compute what the CPU computes?
- `facts.py`: all of it in words, for `maquette doctor` and for the record of a run.

torch is imported inside the functions, so importing this package costs nothing.
"""

from maquette.device.choose import Device, Precision, choose_device, cpu_count
from maquette.device.facts import describe, examine
from maquette.device.memory import available_memory

__all__ = [
    "Device",
    "Precision",
    "available_memory",
    "choose_device",
    "cpu_count",
    "describe",
    "examine",
]
