"""What PyTorch says in the middle of a run becomes something a person can act on."""

from pathlib import Path

import pytest
from tiny_task import CPU, run_tiny, tiny_recipe, tiny_source

from maquette.device import Device
from maquette.errors import RunError
from maquette.training.failures import explained

GPU = Device(name="cuda", precision="fp32")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB.",
        "MPS backend out of memory (MPS allocated: 1 GB)",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_out_of_memory_says_what_to_change_and_keeps_the_effective_batch(said: str) -> None:
    with (
        pytest.raises(RunError, match=r"batch_size=32 with training\.accumulate=4") as caught,
        explained(tiny_recipe(batch_size=64, accumulate=2), GPU),
    ):
        raise RuntimeError(said)
    assert "ran out of memory at training.batch_size=64" in str(caught.value)


def test_a_refused_operation_is_named_with_both_ways_out() -> None:
    with (
        pytest.raises(RunError, match=r"cumsum_cuda_kernel gives another result .*device=cpu"),
        explained(tiny_recipe(), GPU),
    ):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but")


def test_batch_norm_on_single_samples_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"batches of at least 2 samples.*batch_size is 1\)"):
        run_tiny(tiny_recipe(tmp_path, batch_size=1))


def test_a_last_batch_of_one_sample_is_no_problem(tmp_path: Path) -> None:
    result, _, _ = run_tiny(tiny_recipe(tmp_path, batch_size=16), train=tiny_source(33))
    assert result.history[0]["step"] == 2


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ValueError, match="our own mistake"), explained(tiny_recipe(), CPU):
        raise ValueError("our own mistake")
