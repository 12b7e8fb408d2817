import pytest
from pets import write_image


@pytest.fixture
def folder(tmp_path):
    """Two classes of five whole images."""
    for number, label in enumerate(("cats", "dogs")):
        for index in range(5):
            write_image(tmp_path / "pets" / label / f"{index}.png", seed=number * 100 + index)
    return tmp_path / "pets"
