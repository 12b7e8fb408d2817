"""`maquette init` for images: the recipe reads back, fits what was found, and trains as it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from maquette.errors import DataError
from maquette.recipe import read_recipe
from maquette.tasks import make_task
from maquette.tasks.vision.suggest import suggest_recipe


def write_images(root, counts, sizes=((12, 10),)):
    """Write `counts[label]` images of each class; sizes (width, height) take turns."""
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for index in range(count):
            seed = sum(label.encode()) * 1000 + index
            width, height = sizes[index % len(sizes)]
            pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / label / f"{index}.png")
    return root


def recipe_of(path, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(suggest_recipe(path), encoding="utf-8")
    return read_recipe(file)


def test_the_recipe_reads_back_and_its_first_step_runs(tmp_path):
    root = write_images(tmp_path / "my pets: 2024", {"cats": 6, "dogs": 6})
    recipe = recipe_of(root, tmp_path)
    assert recipe.name == "my-pets-2024"
    assert recipe.data.image.path == str(root)
    assert recipe.data.image.image_size == (10, 12)
    task = make_task(recipe)
    splits = task.load()
    preprocessor = task.fit_preprocessor(splits.train)
    source = task.prepare(splits.train, preprocessor, augment=True)
    batch = next(source.batches(torch.arange(len(source)), 8, epoch=1))
    total, count = task.loss(task.build_model(preprocessor), batch)
    assert np.isfinite(total.item())
    assert count == 8


def test_what_was_found_is_in_the_comments(tmp_path):
    text = suggest_recipe(write_images(tmp_path / "pets", {"cats": 6, "dogs": 4}))
    assert "# 10 images of 2 classes: cats (6), dogs (4).\n" in text
    assert "image_size: [10, 12]  # height, width; found: 10 × 12\n" in text
    assert "horizontal_flip: false  # true where left and right mean nothing" in text
    assert "class_weights" not in text
    assert "tolerance" not in text


@pytest.mark.parametrize(
    ("sizes", "image_size", "fit"),
    [
        (((5, 6),), (8, 8), "crop"),
        (((200, 200),), (128, 128), "crop"),
        (((200, 100),), (64, 128), "crop"),
        (((50, 40), (40, 50)), (32, 32), "crop"),
        (((100, 30), (90, 100)), (64, 64), "pad"),
    ],
)
def test_the_image_size_follows_what_was_found(tmp_path, sizes, image_size, fit):
    image = recipe_of(write_images(tmp_path / "pets", {"a": 4, "b": 4}, sizes), tmp_path).data.image
    assert (image.image_size, image.fit) == (image_size, fit)


def test_unequal_classes_are_weighed(tmp_path):
    root = write_images(tmp_path / "pets", {"cats": 9, "dogs": 3})
    assert recipe_of(root, tmp_path).training.class_weights == "balanced"


def test_bad_files_get_the_tolerance_they_need(tmp_path):
    root = write_images(tmp_path / "pets", {"cats": 8, "dogs": 8})
    (root / "cats" / "0.png").write_bytes(b"")
    text = suggest_recipe(root)
    assert "tolerance: 0.063  # sets aside: cats/0.png is empty (0 bytes)\n" in text
    recipe = recipe_of(root, tmp_path)
    assert make_task(recipe).load().report.num_samples == 15


def test_larger_folders_get_larger_networks(tmp_path):
    few = recipe_of(write_images(tmp_path / "few", {"a": 5, "b": 5}), tmp_path)
    many = recipe_of(write_images(tmp_path / "many", {"a": 150, "b": 150}), tmp_path)
    assert few.model.architecture.base_width < many.model.architecture.base_width


def refusal(root):
    with pytest.raises(DataError) as caught:
        suggest_recipe(root)
    return str(caught.value)


def test_what_cannot_be_trained(tmp_path):
    one = write_images(tmp_path / "one", {"cats": 3})
    assert refusal(one) == f"{one} has one class only, 'cats'; a classifier needs at least two."
    lonely = write_images(tmp_path / "lonely", {"cats": 3, "dogs": 1})
    assert refusal(lonely) == (
        f"{lonely} has classes with one image only: dogs. It cannot be both learned and tested; "
        "add images, or remove the folder."
    )
    empty = write_images(tmp_path / "empty", {"cats": 3, "dogs": 3, "birds": 0})
    assert refusal(empty) == (
        f"{empty} has class folders without images: birds. Put some in, or remove them."
    )
    bad = write_images(tmp_path / "bad", {"cats": 2, "dogs": 2})
    for path in bad.glob("*/*.png"):
        path.write_bytes(b"")
    assert refusal(bad).startswith(f"{bad} has no usable image: cats/0.png is empty (0 bytes), ")
