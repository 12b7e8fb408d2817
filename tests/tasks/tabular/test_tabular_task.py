"""The tabular task: every answer of the protocol, on tables in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from made_tables import make_samples, mixed_samples
from torch.nn import functional as F

from maquette.errors import DataError, UsageError
from maquette.recipe import dump_recipe, make_recipe, read_recipe
from maquette.tasks import make_task
from maquette.tasks.tabular.samples import TableSamples
from maquette.tasks.tabular.task import TabularTask


def make(
    *,
    preprocessing: dict[str, Any] | None = None,
    architecture: dict[str, Any] | None = None,
    **training: Any,
) -> TabularTask:
    table = {"path": "table.csv", "target_column": "outcome", "preprocessing": preprocessing or {}}
    recipe = make_recipe(
        {
            "name": "made",
            "data": {"tabular": table},
            "model": {"type": "tabular", "name": "mlp", "architecture": architecture or {}},
            "training": training,
        }
    )
    task = make_task(recipe)
    assert isinstance(task, TabularTask)
    return task


def priced_samples(num_rows: int = 40) -> TableSamples:
    size = np.random.default_rng(0).normal(50, 9, num_rows)
    return make_samples(numbers={"size": size}, target=(1000 * size + 7).tolist())


def whole_batch(task: TabularTask, samples: TableSamples, *, augment: bool = False):
    preprocessor = task.fit_preprocessor(samples)
    source = task.prepare(samples, preprocessor, augment=augment)
    (batch,) = source.batches(torch.arange(len(samples)), len(samples), epoch=1)
    return preprocessor, batch


@pytest.mark.parametrize("encoding", ["onehot", "ordinal", "embedding"])
def test_network_loss_metrics_and_answers_of_a_classifier(encoding):
    task = make(preprocessing={"categorical_encoding": encoding})
    samples = mixed_samples()
    preprocessor, batch = whole_batch(task, samples)
    model = task.build_model(preprocessor)
    total, count = task.loss(model, batch)
    outputs = model(*batch.inputs)
    assert outputs.shape == (60, 2)
    assert count == 60
    torch.testing.assert_close(total, F.cross_entropy(outputs, batch.targets, reduction="sum"))

    metrics = task.metrics(preprocessor)
    metrics.update(outputs, batch.targets)
    answers = task.decode(outputs, preprocessor)
    right = np.mean([a == b for a, b in zip(answers.values, samples.target, strict=True)])
    assert metrics.compute()["accuracy"] == pytest.approx(right)
    assert answers.classes == ("no", "yes")
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, rtol=1e-6)


def test_a_regression_answers_in_the_users_unit():
    task, samples = make(), priced_samples()
    preprocessor, batch = whole_batch(task, samples)
    model = task.build_model(preprocessor)
    assert model(*batch.inputs).shape == (40,)
    total, count = task.loss(model, batch)
    assert total.item() / count == pytest.approx(1, abs=0.3)  # the variance of the target
    perfect = task.decode(batch.targets, preprocessor)
    np.testing.assert_allclose(perfect.values, samples.target, rtol=1e-5)
    assert perfect.probabilities is None
    metrics = task.metrics(preprocessor)
    metrics.update(batch.targets, batch.targets)
    assert metrics.compute()["r2"] == pytest.approx(1)


def test_decoding_an_empty_batch():
    task = make()
    preprocessor, _ = whole_batch(task, mixed_samples())
    assert task.decode(torch.empty(0, 2), preprocessor).values == []


def test_balanced_weights_make_the_classes_count_alike():
    samples = make_samples(numbers={"x": np.arange(10.0)}, target=["a"] * 8 + ["b"] * 2)
    task = make(class_weights="balanced")
    preprocessor, batch = whole_batch(task, samples)
    assert batch.weights.tolist() == [0.625] * 8 + [2.5] * 2
    model = task.build_model(preprocessor)
    total, count = task.loss(model, batch)
    losses = F.cross_entropy(model(*batch.inputs), batch.targets, reduction="none")
    expected = (losses[:8].mean() + losses[8:].mean()) / 2
    torch.testing.assert_close(total / count, expected)


def test_categories_are_hidden_in_training_only():
    task = make(preprocessing={"categorical_encoding": "embedding"})
    samples = mixed_samples(2000)
    _, plain = whole_batch(task, samples)
    _, augmented = whole_batch(task, samples, augment=True)
    changed = (plain.inputs[1] != augmented.inputs[1]).float().mean().item()
    assert 0.005 < changed < 0.02
    assert torch.equal(plain.inputs[0], augmented.inputs[0])


def test_raw_inputs_encode_like_the_samples():
    task, samples = make(), mixed_samples()
    preprocessor, batch = whole_batch(task, samples)
    raw = task.raw_inputs(samples, [3, 0, 59])
    assert list(raw[0]) == list(samples.columns)
    assert torch.equal(preprocessor.encode(raw)[0], batch.inputs[0][[3, 0, 59]])


def test_the_example_can_be_predicted():
    task = make()
    preprocessor, _ = whole_batch(task, mixed_samples())
    example = task.example(preprocessor)
    outputs = task.build_model(preprocessor).eval()(*preprocessor.encode([example]))
    assert len(task.decode(outputs, preprocessor)) == 1


def test_baseline_features_have_stable_codes_and_keep_gaps():
    task, samples = make(), mixed_samples()
    features = task.baseline_features(samples)
    assert features.shape == (60, 5)
    assert features.dtype == np.float32
    assert np.isnan(features).sum() == sum(
        [
            np.isnan(samples.numbers["income"]).sum(),
            np.isnat(samples.dates["since"]).sum(),
            sum(colour is None for colour in samples.categories["colour"]),
        ]
    )
    some = np.array([5, 2, 9])
    np.testing.assert_array_equal(task.baseline_features(samples.take(some)), features[some])
    postcodes = samples.categories["postcode"]
    assert len(set(features[:, -1])) == len(set(postcodes))


def test_baseline_features_stay_finite():
    samples = make_samples(numbers={"x": [1e300, -1e300]}, target=["a", "b"])
    assert np.isfinite(make().baseline_features(samples)).all()


def test_targets_are_as_given():
    task = make()
    assert task.target_values(mixed_samples())[0] in ("no", "yes")
    np.testing.assert_array_equal(task.target_values(priced_samples()), priced_samples().target)


def test_the_preprocessor_comes_back_from_json():
    task = make()
    preprocessor, _ = whole_batch(task, mixed_samples())
    assert task.preprocessor_from_json(preprocessor.to_json()) == preprocessor


@pytest.mark.parametrize(
    ("key", "value"),
    [("stem", "small"), ("base_width", 32), ("drop_path", 0.1), ("weights", "resnet.pt")],
)
def test_keys_of_vision_networks_are_refused(key, value):
    with pytest.raises(UsageError, match=f"model.architecture.{key} is {value!r}, which an mlp do"):
        make(architecture={key: value})


def test_a_resolved_recipe_states_every_default_and_is_accepted(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(make().recipe), encoding="utf-8")
    make_task(read_recipe(path))


def test_input_dim_is_checked_against_the_data():
    samples = mixed_samples()
    assert make(architecture={"input_dim": 18}).build_model(make().fit_preprocessor(samples))
    with pytest.raises(UsageError, match=r"input_dim is 4, but the data gives 18 inputs .* 18 or"):
        make(architecture={"input_dim": 4}).build_model(make().fit_preprocessor(samples))


def test_batch_normalisation_needs_two_rows_per_batch():
    task = make(architecture={"normalization": "batch"}, batch_size=1)
    with pytest.raises(
        UsageError, match=r"needs at least two rows per batch, .* normalization: lay"
    ):
        task.build_model(task.fit_preprocessor(mixed_samples()))


def test_batch_normalisation_trains_when_one_row_is_left_over():
    task = make(architecture={"normalization": "batch"}, batch_size=3)
    samples = mixed_samples(61)
    preprocessor = task.fit_preprocessor(samples)
    model = task.build_model(preprocessor).train()
    source = task.prepare(samples, preprocessor, augment=True)
    for batch in source.batches(torch.arange(61), 3, epoch=1):
        task.loss(model, batch)[0].backward()


@pytest.mark.parametrize(
    ("samples", "training", "message"),
    [
        (mixed_samples(), {"loss": "mse"}, "'mse', but column 'outcome' holds classes; use cross_"),
        (priced_samples(), {"loss": "focal"}, "'focal', but column 'outcome' holds numbers; use "),
        (priced_samples(), {"class_weights": "balanced"}, "holds numbers; use class_weights: none"),
        (priced_samples(), {"label_smoothing": 0.1}, "is 0.1, which the loss 'mse' does not have"),
        (mixed_samples(), {"label_smoothing": 0.1, "loss": "focal"}, "the loss 'focal' does not"),
    ],
)
def test_a_loss_that_does_not_fit_the_target_is_refused(samples, training, message):
    task = make(**training)
    with pytest.raises(UsageError, match=message):
        task.build_model(task.fit_preprocessor(samples))


def test_another_split_with_an_unknown_class_is_refused():
    task = make()
    train = make_samples(numbers={"x": [1.0, 2.0]}, target=["a", "b"])
    other = make_samples(numbers={"x": [1.0, 2.0]}, target=["a", "z"])
    with pytest.raises(DataError, match="row 3 has the class 'z'"):
        task.prepare(other, task.fit_preprocessor(train), augment=False)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_every_regression_loss_can_be_trained(loss):
    torch.manual_seed(0)
    task = make(loss=loss)
    preprocessor, batch = whole_batch(task, priced_samples())
    model = task.build_model(preprocessor)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = None
    for _ in range(40):
        total, _ = task.loss(model, batch)
        first = first or total.item()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert total.item() < 0.2 * first
