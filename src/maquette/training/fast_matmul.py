"""float32 products by the faster of PyTorch's two ways, where that one is as exact.

`torch.set_float32_matmul_precision("medium")` allows products of float32 to be rounded to bfloat16.
On some CPUs it does something else: it hands them to another library (oneDNN in place of MKL),
which computes in float32 all the same. That one can be twice as fast; it can also be slower, and
for small products it often is. Neither can be asked, so both are measured, on the large products of
this network's linear layers; a network without any is left alone. The bits of the two ways differ,
so a measurement is kept: the cache folder has it for the next run of such a network on this
machine, and the run's log for when the run is resumed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from maquette.device import Device, describe
from maquette.errors import RunError
from maquette.files import cache_folder, write_json
from maquette.runs import RunFolder
from maquette.tasks.base import Batch, Source
from maquette.training.threads import watch_layers

WORTH = 1.2
"""How many times faster it must be. What is nearer to 1 could change from run to run."""
EXACT = 2e-6
"""Largest relative error that still counts as float32; bfloat16 inside gives 2e-3."""
EVENT = "fp32 products"
"""Its name in the run's log."""

LARGE = 1 << 26
"""Multiply-adds of a product from which on it counts; smaller ones are over before it matters."""
MOST_ROWS = 256
"""Rows of a product that is measured, at most."""
MOST_SHAPES = 3
TURNS = 9

Product = tuple[int, int, int]
"""Rows, inputs and outputs of a linear layer."""
Timer = Callable[[Callable[[], object]], float]


@dataclass(frozen=True, kw_only=True)
class MatmulChoice:
    """How float32 products are computed, and the measurement behind it."""

    precision: str
    """What torch.set_float32_matmul_precision is given."""
    speedup: float | None = None
    """Time of "highest" by that of "medium"; None where nothing was measured."""
    error: float | None = None
    """Largest relative error of a "medium" product; None where nothing was measured."""

    def __str__(self) -> str:
        if self.speedup is None or self.error is None:
            return f"{EVENT}: {self.precision}"
        return (
            f"{EVENT}: {self.precision} (medium is {self.speedup:.2f} times as fast here, with a "
            f"relative error of {self.error:.0e})"
        )


@contextmanager
def fast_matmul(
    model: nn.Module, source: Source, *, batch_size: int, device: Device, folder: RunFolder
) -> Iterator[MatmulChoice]:
    """Run the block with the products that are faster for this network, if they are exact.

    Only on a CPU and in fp32: elsewhere "medium" rounds, or there is nothing to gain. Who has set
    another precision than PyTorch's own is left with it.

    Args:
        model: on `device`.
        source: its first batch shows how large the products are.
        folder: of the run. Its log gains the choice, or has it from before the run was resumed.
    """
    before = torch.get_float32_matmul_precision()
    choice = recorded_choice(folder)
    if choice is None:
        if before != "highest" or device.name != "cpu" or device.precision != "fp32":
            choice = MatmulChoice(precision=before)
        else:
            rows = torch.arange(min(batch_size, len(source)))
            batch = next(iter(source.batches(rows, batch_size, epoch=0)))
            choice = kept_choice(linear_products(model, batch))
        folder.log(EVENT, **asdict(choice))
    torch.set_float32_matmul_precision(choice.precision)
    try:
        yield choice
    finally:
        torch.set_float32_matmul_precision(before)


def recorded_choice(folder: RunFolder) -> MatmulChoice | None:
    """Return the choice that the run's log holds, None if there is none."""
    if not folder.log_file.is_file():
        return None
    with folder.log_file.open(encoding="utf-8") as file:
        for line in file:
            if EVENT in line:
                entry = json.loads(line)
                return MatmulChoice(**{k: entry[k] for k in ("precision", "speedup", "error")})
    return None


def kept_choice(products: Sequence[Product]) -> MatmulChoice:
    """Return what was measured on this machine before; measure and keep it the first time."""
    if not products:
        return MatmulChoice(precision="highest")
    file = choice_file(products)
    try:
        return MatmulChoice(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there yet, or damaged
        choice = choose_matmul(products)
    with suppress(RunError):  # a cache that cannot be written only costs the next measurement
        write_json(file, asdict(choice))
    return choice


def choice_file(products: Sequence[Product]) -> Path:
    """Return where the cache keeps the choice: one file per machine, PyTorch, threads, products."""
    machine = [describe()["processor"], torch.__version__, torch.get_num_threads(), list(products)]
    key = hashlib.sha256(json.dumps(machine).encode()).hexdigest()[:16]
    return cache_folder("fp32_products") / f"{key}.json"


def linear_products(model: nn.Module, batch: Batch) -> list[Product]:
    """Return the large products in which most of the linear layers' work is, the largest share
    first; none where all are small. More than `MOST_ROWS` rows take longer and change little, so
    no more are told, and batches of different lengths share one measurement."""
    work: Counter[Product] = Counter()

    def look(layer: nn.Module, output: Tensor) -> None:
        assert isinstance(layer, nn.Linear), "only these are watched"
        rows = output.numel() // layer.out_features
        product = (min(rows, MOST_ROWS), layer.in_features, layer.out_features)
        if output.numel() * layer.in_features >= LARGE:
            work[product] += output.numel() * layer.in_features

    watch_layers(model, batch, (nn.Linear,), look)
    return [product for product, _ in work.most_common(MOST_SHAPES)]


def choose_matmul(products: Sequence[Product], *, timer: Timer | None = None) -> MatmulChoice:
    """Measure both ways on `products`, forward and backward, and take the better one.

    Args:
        timer: seconds that a call takes.
    """
    before = torch.get_float32_matmul_precision()
    operands = [_operands(product) for product in products]
    try:
        torch.set_float32_matmul_precision("medium")
        error = max(_error(*tensors) for tensors in operands)
        seconds = _seconds(operands, timer or _taken)
    finally:
        torch.set_float32_matmul_precision(before)
    speedup = seconds["highest"] / max(seconds["medium"], 1e-9)
    is_better = speedup >= WORTH and error <= EXACT
    precision = "medium" if is_better else "highest"
    return MatmulChoice(precision=precision, speedup=round(speedup, 3), error=error)


Operands = tuple[Tensor, Tensor, Tensor]
"""Inputs (rows, in), weights (out, in) and gradients of the outputs (rows, out) of a layer."""


def _operands(product: Product) -> Operands:
    rows, inputs, outputs = product
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, inputs), (outputs, inputs), (rows, outputs))
    x, weight, gradient = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, weight, gradient


def _products(x: Tensor, weight: Tensor, gradient: Tensor) -> Operands:
    """The products of a layer: its outputs, and the gradients of its inputs and its weights."""
    return x @ weight.T, gradient @ weight, gradient.T @ x


def _error(x: Tensor, weight: Tensor, gradient: Tensor) -> float:
    exact = _products(x.double(), weight.double(), gradient.double())
    found = _products(x, weight, gradient)
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))


def _seconds(operands: Sequence[Operands], timer: Timer) -> dict[str, float]:
    """Precision -> seconds of all products, taken in turns; of each the fastest turn, which other
    work on the machine left alone."""
    fastest = {way: [float("inf")] * len(operands) for way in ("highest", "medium")}
    for _ in range(TURNS):
        for way, times in fastest.items():
            torch.set_float32_matmul_precision(way)
            for number, tensors in enumerate(operands):
                times[number] = min(times[number], timer(partial(_products, *tensors)))
    return {way: sum(times) for way, times in fastest.items()}


def _taken(run: Callable[[], object]) -> float:
    """Seconds of the processor where one thread works, which other work hardly disturbs."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start
