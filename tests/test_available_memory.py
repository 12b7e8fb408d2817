"""What this process may still take of the machine's memory."""

from maquette import device


def test_available_memory_is_a_plausible_number_of_bytes():
    assert 2**26 < device.available_memory() < 2**46


def test_a_containers_limit_counts(monkeypatch):
    monkeypatch.setattr(device, "_container_memory", lambda: 12345.0)
    assert device.available_memory() == 12345
