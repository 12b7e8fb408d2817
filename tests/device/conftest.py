"""Fixtures of the device tests."""

import pytest
from fake_mac import fake_mac


@pytest.fixture
def mac(monkeypatch):
    """An M3 Pro with 18 GiB and macOS 14.5; calling it makes it another."""
    fake_mac(monkeypatch)
    return lambda *arguments, **options: fake_mac(monkeypatch, *arguments, **options)
