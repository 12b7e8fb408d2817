"""The vision task through its protocol: batches, losses, decoding, profiles, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from maquette.data.images import decode_image
from maquette.errors import DataError, UsageError
from maquette.recipe import make_recipe, read_recipe
from maquette.tasks import make_task
from maquette.tasks.vision.models import build_model
from maquette.tasks.vision.preprocess import IMAGENET_MEAN, IMAGENET_STD

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "data" / "sample" / "images"
AUGMENTATION = {
    "horizontal_flip": True,
    "rotation_range": 20,
    "translate": 0.1,
    "brightness": 0.2,
    "erase": 0.5,
}


def task_of(*, image=None, architecture=None, training=None, **others):
    return make_task(
        make_recipe(
            {
                "name": "test",
                "data": {
                    "image": {"path": str(SAMPLE), "image_size": [16, 20], **(image or {})},
                },
                "model": {
                    "type": "vision",
                    "name": "resnet18",
                    "architecture": {"base_width": 8, **(architecture or {})},
                },
                "training": training or {},
                **others,
            }
        )
    )


@pytest.fixture(scope="module")
def prepared():
    """A task with augmentation, its splits and its preprocessor."""
    task = task_of(image={"augmentation": AUGMENTATION})
    splits = task.load()
    return task, splits, task.fit_preprocessor(splits.train)


def all_of(source, batch_size=8, *, order=None, epoch=1):
    """Every image of a source in the order of its rows, (n, 3, H, W)."""
    order = torch.arange(len(source)) if order is None else order
    batches = list(source.batches(order, batch_size, epoch=epoch))
    rows = torch.cat([batch.rows for batch in batches])
    assert torch.equal(rows, order)
    images = torch.cat([batch.inputs[0] for batch in batches])
    return images[torch.argsort(rows)]


# Batches


def test_batches_are_what_the_protocol_says(prepared):
    task, splits, preprocessor = prepared
    source = task.prepare(splits.train, preprocessor, augment=True)
    assert len(source) == len(source.ids) == len(splits.train) == 21
    batches = list(source.batches(torch.arange(21), 8, epoch=1))
    assert [len(batch.targets) for batch in batches] == [8, 8, 5]
    for batch in batches:
        (images,) = batch.inputs
        assert images.shape == (len(batch.targets), 3, 16, 20)
        assert images.dtype == torch.float32
        assert batch.targets.dtype == batch.rows.dtype == torch.int64
        assert batch.weights is None
        for row, target in zip(batch.rows, batch.targets, strict=True):
            assert source.ids[row].split("/")[0] == preprocessor.classes[target]


def test_order_and_batch_size_change_no_pixel(prepared):
    task, splits, preprocessor = prepared
    source = task.prepare(splits.train, preprocessor, augment=True)
    expected = all_of(source)
    shuffled = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    for batch_size in (2, 5, 21, 100):
        assert torch.equal(all_of(source, batch_size, order=shuffled), expected)


def test_epochs_differ_in_training_and_not_in_evaluation(prepared):
    task, splits, preprocessor = prepared
    training = task.prepare(splits.train, preprocessor, augment=True)
    assert not torch.equal(all_of(training, epoch=1), all_of(training, epoch=2))
    evaluation = task.prepare(splits.train, preprocessor, augment=False)
    assert torch.equal(all_of(evaluation, epoch=1), all_of(evaluation, epoch=2))


def test_batches_are_the_same_from_memory_and_from_disk(prepared):
    task, splits, preprocessor = prepared
    on_disk = replace(splits.train, pixels=None)
    for augment in (True, False):
        expected = all_of(task.prepare(splits.train, preprocessor, augment=augment))
        found = all_of(task.prepare(on_disk, preprocessor, augment=augment), 5)
        assert torch.equal(found, expected)


def test_serving_sees_what_evaluation_saw(prepared):
    task, splits, preprocessor = prepared
    expected = all_of(task.prepare(splits.test, preprocessor, augment=False))
    (from_png,) = preprocessor.encode(task.raw_inputs(splits.test, range(len(splits.test))))
    (from_files,) = preprocessor.encode(splits.test.paths)
    assert torch.equal(from_png, expected)
    assert torch.equal(from_files, expected)


def test_a_batch_abandoned_half_way_leaves_no_thread_waiting(prepared):
    task, splits, preprocessor = prepared
    source = task.prepare(replace(splits.train, pixels=None), preprocessor, augment=False)
    batches = source.batches(torch.arange(21), 4, epoch=1)
    next(batches)
    batches.close()
    assert len(all_of(source)) == 21


# Losses and weights


def test_the_loss_is_summed_cross_entropy(prepared):
    task, splits, preprocessor = prepared
    source = task.prepare(splits.valid, preprocessor, augment=False)
    batch = next(source.batches(torch.arange(len(source)), 100, epoch=1))
    model = task.build_model(preprocessor).eval()
    total, count = task.loss(model, batch)
    log_p = torch.log_softmax(model(*batch.inputs), dim=1)
    expected = -log_p[torch.arange(len(source)), batch.targets].sum()
    torch.testing.assert_close(total, expected)
    assert count == len(source)


def test_balanced_weights_make_classes_equal(prepared):
    _, splits, preprocessor = prepared
    task = task_of(training={"class_weights": "balanced"})
    uneven = replace(preprocessor, class_counts=(14, 6, 1))
    source = task.prepare(splits.train, uneven, augment=False)
    (batch,) = source.batches(torch.arange(21), 100, epoch=1)
    torch.testing.assert_close(batch.weights, torch.tensor([0.5, 7 / 6, 7.0])[batch.targets])


def test_a_narrow_network_learns_a_batch_by_heart(prepared):
    task, splits, preprocessor = prepared
    torch.manual_seed(0)
    model = task.build_model(preprocessor)
    source = task.prepare(splits.train, preprocessor, augment=False)
    (batch,) = source.batches(torch.arange(21), 100, epoch=1)
    first = task.loss(model, batch)[0].item() / 21
    assert abs(first - np.log(3)) < 0.7  # three classes, nothing known yet
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        total, count = task.loss(model, batch)
        (total / count).backward()
        optimizer.step()
    assert task.loss(model, batch)[0].item() / 21 < 0.05


# Around the network


def test_the_preprocessor_is_fitted_on_the_training_split(prepared):
    _, splits, preprocessor = prepared
    assert preprocessor.classes == ("blue", "green", "red")
    assert preprocessor.class_counts == (7, 7, 7)
    pixels = splits.train.pixels.reshape(-1, 3) / 255
    np.testing.assert_allclose(preprocessor.mean, pixels.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(preprocessor.std, pixels.std(axis=0), atol=1e-9)


def test_without_normalisation_pixels_stay_in_range():
    task = task_of(image={"augmentation": {"normalize": False, "erase": 1.0}})
    train = task.load().train
    preprocessor = task.fit_preprocessor(train)
    assert (preprocessor.mean, preprocessor.std) == ((0, 0, 0), (1, 1, 1))
    images = all_of(task.prepare(train, preprocessor, augment=True))
    assert images.min() >= 0
    assert images.max() <= 1


def test_loaded_weights_come_with_their_normalisation(tmp_path):
    architecture = task_of().recipe.model.architecture
    donor = build_model("resnet18", num_classes=5, image_size=(16, 20), architecture=architecture)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    task = task_of(architecture={"weights": str(tmp_path / "w.safetensors")})
    preprocessor = task.fit_preprocessor(task.load().train)
    assert (preprocessor.mean, preprocessor.std) == (IMAGENET_MEAN, IMAGENET_STD)
    model = task.build_model(preprocessor)
    report = task.load_initial_weights(model)
    assert report is not None
    assert report.startswith("loaded ")
    assert torch.equal(model.layer3[0].conv1.weight, donor.layer3[0].conv1.weight)
    assert model.fc.weight.shape[0] == 3


def test_decoding_gives_names_and_probabilities(prepared):
    task, _, preprocessor = prepared
    predictions = task.decode(torch.tensor([[0.0, 3.0, 1.0], [9.0, 0.0, 0.0]]), preprocessor)
    assert predictions.values == ["green", "blue"]
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-6)
    assert predictions[0]["probabilities"]["green"] == pytest.approx(0.8438, abs=1e-4)


def test_raw_inputs_are_png_files(prepared):
    task, splits, _ = prepared
    first, second = task.raw_inputs(splits.test, [2, 0])
    for content, row in ((first, 2), (second, 0)):
        assert content.startswith(b"\x89PNG")
        pixels = decode_image(content, max_pixels=1000)
        np.testing.assert_array_equal(pixels, splits.test.pixels[row])


def test_baseline_features_are_small_and_grey(prepared):
    task, splits, _ = prepared
    features = task.baseline_features(splits.test)
    assert features.shape == (len(splits.test), 16 * 16)
    assert features.dtype == np.float32
    assert 0 <= features.min() < features.max() <= 1
    grey = splits.test.pixels @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(features.mean(axis=1), grey.mean(axis=(1, 2)), atol=0.01)


def test_target_values_are_class_names(prepared):
    task, splits, _ = prepared
    names = [name.split("/")[0] for name in splits.train.ids]
    assert task.target_values(splits.train).tolist() == names


def test_the_profile_describes_every_image(prepared):
    task, splits, _ = prepared
    profile = json.loads(json.dumps(task.profile(splits.train), allow_nan=False))
    assert profile["num_rows"] == 21
    assert profile["target"]["values"] == {"blue": 7, "green": 7, "red": 7}
    names = ["brightness", "contrast", "red", "green", "blue", "height", "width"]
    assert list(profile["numbers"]) == names
    for number in profile["numbers"].values():
        assert sum(number["counts"]) == number["count"] == 21
        assert len(number["counts"]) == len(number["edges"]) + 1
    red = splits.train.pixels[..., 0].mean(axis=(1, 2)) / 255
    assert profile["numbers"]["red"]["mean"] == pytest.approx(red.mean())
    assert profile["numbers"]["height"]["quantiles"][50] == 64


def test_the_example_can_be_encoded(prepared):
    task, _, preprocessor = prepared
    example = task.example(preprocessor)
    assert decode_image(example, max_pixels=1000).shape == (16, 20, 3)
    assert preprocessor.encode([example])[0].shape == (1, 3, 16, 20)


def test_the_preprocessor_survives_json(prepared):
    task, _, preprocessor = prepared
    state = json.loads(json.dumps(preprocessor.to_json()))
    assert task.preprocessor_from_json(state) == preprocessor


def test_other_labelled_data_is_one_split(prepared):
    task, _, preprocessor = prepared
    assert len(task.load_labelled(str(SAMPLE), preprocessor)) == 30
    with pytest.raises(DataError, match=r"has images of blue, which the model was not trained on"):
        task.load_labelled(str(SAMPLE), replace(preprocessor, classes=("green", "red")))


# What is refused


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"loss": "huber"},
            "training.loss is 'huber', a loss of numbers, but images are sorted into classes; use "
            "cross_entropy, focal or auto.",
        ),
        (
            {"loss": "focal", "label_smoothing": 0.1},
            "training.label_smoothing is 0.1, which the loss 'focal' does not have; use "
            "label_smoothing: 0, or the loss cross_entropy.",
        ),
        (
            {"batch_size": 1},
            "training.batch_size is 1, but the networks normalise over each batch, which needs at "
            "least two images; use batch_size: 2 or more, with accumulate if memory is short.",
        ),
    ],
)
def test_training_that_cannot_be_meant(training, message):
    with pytest.raises(UsageError) as caught:
        task_of(training=training)
    assert str(caught.value) == message


# Shipped recipes


@pytest.mark.parametrize("name", ["colours", "digits", "sign_digits"])
def test_shipped_recipes_open_with_command_time_and_metric(name):
    path = ROOT / "configs" / f"{name}.yaml"
    recipe = read_recipe(path)
    make_task(recipe)
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first == f"# maquette train configs/{name}.yaml"
    assert "test accuracy" in second


def test_the_digits_are_all_there():
    splits = make_task(read_recipe(ROOT / "configs" / "digits.yaml")).load()
    assert splits.report.num_samples == 1797
    assert splits.report.quarantined == []
    assert splits.train.pixels.shape[1:] == (12, 12, 3)


@pytest.mark.data
def test_the_sign_digits_keep_their_given_test_split():
    splits = make_task(read_recipe(ROOT / "configs" / "sign_digits.yaml")).load()
    assert len(splits.test) == 309
    assert len(splits.train) + len(splits.valid) == 1341
    assert len(set(splits.train.labels)) == 10
