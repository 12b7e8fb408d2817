"""The image-text task: from pairs to a bundle, with every loss, method and refusal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from shape_pairs import COLOURS, colour_folders, shape_manifest, shape_recipe

import maquette
from maquette.errors import DataError, RecipeError, UsageError
from maquette.exporting import export_bundle
from maquette.lifecycle import Run, evaluate, evaluate_at_sizes, predict_file, train
from maquette.recipe.augmentation import TextAugmentation
from maquette.tasks import make_task
from maquette.tasks.base import CoupledTask
from maquette.tasks.image_text.losses import LOSSES, chance_loss
from maquette.tasks.image_text.setup import setup_of
from maquette.tasks.image_text.task import ImageTextTask


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return shape_manifest(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory) -> Run:
    """A run that learned: captions, labels, two evaluation sizes."""
    recipe = shape_recipe(
        tmp_path_factory.mktemp("runs"),
        pairs,
        pairs__label_column="colour",
        pairs__resolution={"evaluate": [16, 24]},
        contrastive={"loss": "unicl"},
        training__epochs=15,
        training__learning_rate=0.001,
    )
    return train(recipe)


@pytest.fixture(scope="module")
def checkpoint(trained, tmp_path_factory) -> Path:
    """The same network in the Hugging Face format, to be fine-tuned."""
    folder = tmp_path_factory.mktemp("export") / "clip"
    export_bundle(trained.bundle, folder)
    return folder


def quick(tmp_path: Path, path: Path | str, **changes: Any) -> Run:
    return train(shape_recipe(tmp_path, path, **({"training__epochs": 1} | changes)))


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return maquette.load(run.bundle).model.state_dict()


def test_it_learns_and_leaves_everything(trained):
    metrics = trained.metrics
    chance = trained.summary["chance"]
    assert metrics["test/mean_recall"] > chance["mean_recall"] + 0.1
    assert metrics["test/text_to_image_mrr"] > chance["text_to_image_mrr"] + 0.1
    assert trained.summary["zero_shot"]["accuracy"] > 0.5
    assert trained.summary["linear_probe"]["accuracy"] > 0.5
    assert [one["size"] for one in trained.summary["sizes"]] == [16, 24]
    assert trained.summary["tags"]["domain"] == "general"
    assert len(trained.summary["tags"]["dataset_sha256"]) == 64
    assert trained.summary["system"]["peak_memory_mib"] > 50
    assert 0 < metrics["valid/temperature"] < 1
    assert metrics["valid/loss_unicl"] > 0
    assert "attention: " in trained.folder.joinpath("log.jsonl").read_text()
    assert trained.report.stat().st_size > 20_000
    table = "\n".join(trained.lines())
    assert "mean_recall" in table
    assert "zero-shot" in table


def test_the_first_loss_is_that_of_chance(pairs, tmp_path):
    """A new network tells nothing apart: ln B."""
    task = make_task(shape_recipe(tmp_path, pairs))
    assert isinstance(task, ImageTextTask)
    assert isinstance(task, CoupledTask)
    splits = task.load()
    preprocessor = task.fit_preprocessor(splits.train)
    torch.manual_seed(0)
    model = task.build_model(preprocessor)
    task.load_initial_weights(model)
    batch = next(
        task.prepare(splits.train, preprocessor, augment=False).batches(
            torch.arange(16), 16, epoch=1
        )
    )
    total, count = task.loss(model, batch)
    assert count == 16
    assert abs(total.item() / count - math.log(16)) < 1.5
    assert chance_loss("infonce", 16) == pytest.approx(math.log(16))


def test_a_batch_can_be_learned_by_heart(pairs, tmp_path):
    task = make_task(shape_recipe(tmp_path, pairs))
    splits = task.load()
    preprocessor = task.fit_preprocessor(splits.train)
    torch.manual_seed(0)
    model = task.build_model(preprocessor)
    task.load_initial_weights(model)
    source = task.prepare(splits.train, preprocessor, augment=False)
    different = torch.tensor([0, 1, 2, 3, 4, 5])
    batch = next(source.batches(different, 6, epoch=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        total, count = task.loss(model, batch)
        total.backward()
        optimizer.step()
    repeats = len(batch.targets) - len(batch.targets[:, 1].unique())
    assert total.item() / count < 0.1 + repeats * math.log(2)


def test_a_bundle_compares_pairs(trained, pairs, tmp_path):
    bundle = maquette.load(trained.bundle)
    image = (pairs.parent / "images/000.png").read_bytes()
    texts = ["a red disc", "a blue cross"]
    found = bundle.predict([{"image": image, "text": text} for text in texts])
    right, wrong = found.values
    assert -1.001 <= wrong < right <= 1.001
    assert bundle.predict([bundle.example()]).probabilities is None
    lines = predict_file(trained.bundle, pairs, tmp_path / "answers.jsonl")
    assert "60 predictions" in lines[0]
    first = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert first["similarity"] == pytest.approx(right, abs=0.2)


def test_it_is_measured_again_and_at_other_sizes(trained, pairs):
    again = evaluate(trained.bundle)
    assert again["mean_recall"] == pytest.approx(trained.metrics["test/mean_recall"])
    assert evaluate(trained.bundle, data=str(pairs))["mean_recall"] > 0
    found = evaluate_at_sizes(trained.bundle, [24, 16])
    assert [one["size"] for one in found] == [16, 24]
    assert found[0]["metrics"]["mean_recall"] == pytest.approx(again["mean_recall"])
    with pytest.raises(UsageError, match=r"multiples of the network's patch of 8 pixels.*20"):
        evaluate_at_sizes(trained.bundle, [20])


def test_class_folders_become_a_classifier(folders, tmp_path):
    run = quick(
        tmp_path,
        folders,
        training__epochs=20,
        training__learning_rate=0.001,
        finetune={"method": "flyp"},
        contrastive={"loss": "unicl"},
        pairs__templates=["a {} thing", "something {}"],
    )
    bundle = maquette.load(run.bundle)
    assert bundle.classes == tuple(sorted(COLOURS))
    image = folders / "red" / "0.png"
    answer = bundle.predict([image])[0]
    assert set(answer["probabilities"]) == set(COLOURS)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert run.metrics["test/accuracy"] > 0.6
    assert "red" in (lines := predict_file(run.bundle, folders, tmp_path / "out.jsonl"))[0] or lines
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 36


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"distillation"}))
def test_every_loss_trains(loss, pairs, tmp_path):
    run = quick(tmp_path, pairs, contrastive={"loss": loss})
    assert math.isfinite(run.metrics["test/loss"])
    assert (weights_of(run).get("logit_bias") is not None) == (loss == "siglip")


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "bilinear"])
def test_every_similarity_trains(similarity, pairs, tmp_path):
    run = quick(tmp_path, pairs, contrastive={"similarity": similarity, "loss": "infonce"})
    assert math.isfinite(run.metrics["test/mean_recall"])
    with pytest.raises(UsageError, match=f"compares features by '{similarity}'"):
        export_bundle(run.bundle, tmp_path / "clip")


def test_distillation_learns_from_a_teacher(pairs, checkpoint, tmp_path):
    settings = {"loss": "distillation", "teacher": str(checkpoint)}
    run = quick(
        tmp_path,
        pairs,
        contrastive=settings,
        pairs__tokenizer=str(checkpoint),
        training__effective_batch=16,
        training__batch_size=8,
    )
    assert math.isfinite(run.metrics["valid/loss"])


def test_micro_batches_and_sizes_change_nothing_but_rounding(pairs, tmp_path):
    runs = [
        quick(
            tmp_path,
            pairs,
            training__batch_size=micro,
            training__effective_batch=16,
            training__optimizer="sgd",  # Adam makes whole steps of rounding where gradients vanish
        )
        for micro in (16, 4)
    ]
    one, other = (weights_of(run) for run in runs)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5, msg=name)


def test_mixed_precision(pairs, tmp_path):
    settings = {"training__batch_size": 8, "training__effective_batch": 16}
    run = quick(tmp_path, pairs, training__precision="bf16", **settings)
    assert math.isfinite(run.metrics["test/mean_recall"])
    assert {value.dtype for value in weights_of(run).values()} == {torch.float32}
    with pytest.raises(UsageError, match="CPUs do not train in; use bf16 or fp32"):
        quick(tmp_path, pairs, training__precision="fp16")


def test_training_at_several_sizes(pairs, tmp_path):
    scales = {"multi_scale": [16, 24, 32]}
    assert quick(tmp_path, pairs, pairs__resolution=scales).metrics["test/mean_recall"] >= 0
    steps = {"progressive": [{"until": 0.5, "size": 8}]}
    run = quick(tmp_path, pairs, pairs__resolution=steps, training__epochs=2)
    assert run.summary["tags"]["resolutions"] == "16, 8 until 0.5"
    late = {"progressive": [{"until": 1, "size": 8}]}
    run = quick(tmp_path, pairs, pairs__resolution=late, training__epochs=2)
    assert "leaves 0 of 2 epochs to image_size 16" in run.report.read_text()


def test_a_batch_size_is_measured(pairs, tmp_path):
    run = quick(tmp_path, pairs, training__batch_size="auto")
    recipe = (run.folder / "recipe.yaml").read_text()
    assert "batch_size: 4\n" in recipe  # a tenth of the training pairs
    assert "4 samples: " in (run.folder / "log.jsonl").read_text()


class TestFineTuning:
    """Methods that start from a checkpoint."""

    def start(self, checkpoint: Path, **changes: Any) -> dict[str, Any]:
        return {
            "model__name": "clip",
            "model__architecture": {"weights": str(checkpoint)},
            "training__learning_rate": 1e-4,
        } | changes

    def test_full(self, trained, checkpoint, pairs, tmp_path):
        run = quick(tmp_path, pairs, **self.start(checkpoint, finetune={"layer_decay": 0.7}))
        before, after = weights_of(trained), weights_of(run)
        assert before.keys() == after.keys()
        moved = {name: (after[name] - before[name]).abs().max().item() for name in before}
        assert 0 < moved["clip.token_embedding.weight"] < moved["clip.text_projection"]
        assert run.metrics["test/mean_recall"] > run.summary["chance"]["mean_recall"]
        assert run.summary["tags"]["base_model"] == str(checkpoint)
        assert "loaded" in (run.folder / "log.jsonl").read_text()

    def test_the_image_tower_can_be_locked(self, trained, checkpoint, pairs, tmp_path):
        run = quick(tmp_path, pairs, **self.start(checkpoint, finetune={"method": "lit"}))
        before, after = weights_of(trained), weights_of(run)
        for name in before:
            same = torch.equal(before[name], after[name])
            assert same == name.startswith("clip.visual"), name

    def test_low_rank_additions_are_merged(self, trained, checkpoint, pairs, tmp_path):
        method = {"method": "lora", "lora_rank": 2, "lora_targets": ["q", "v", "fc"]}
        run = quick(tmp_path, pairs, **self.start(checkpoint, finetune=method))
        before, after = weights_of(trained), weights_of(run)
        assert before.keys() == after.keys()
        name = "clip.visual.transformer.resblocks.0.attn.in_proj_weight"
        change = after[name] - before[name]
        width = change.shape[1]
        assert not change[width : 2 * width].any()  # keys have no addition
        assert torch.linalg.matrix_rank(change[:width], tol=1e-6) <= 2

    def test_old_and_new_weights_are_averaged(self, checkpoint, pairs, tmp_path):
        method = {"wise_ft": True, "wise_ft_steps": 3}
        run = quick(tmp_path, pairs, **self.start(checkpoint, finetune=method))
        events = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
        curve = next(event for event in events if event["event"] == "finished")["wise_ft"]
        assert curve["alphas"] == [0, 0.5, 1]
        assert max(curve["scores"]) == pytest.approx(run.metrics["valid/mean_recall"])
        assert run.summary["wise_ft_alpha"] == curve["best_alpha"]

    def test_another_size_and_temperature(self, checkpoint, pairs, tmp_path):
        changes = {
            "pairs__image_size": 24,
            "contrastive": {"temperature": 0.05, "learn_temperature": False},
        }
        run = quick(tmp_path, pairs, **self.start(checkpoint, **changes))
        assert run.metrics["valid/temperature"] == pytest.approx(0.05)
        assert "resampled" in (run.folder / "log.jsonl").read_text()


def test_captions_change_as_the_domain_says_and_class_prompts_do_not(pairs, tmp_path):
    medical = shape_recipe(tmp_path, pairs, pairs__domain="medical")
    assert setup_of(medical).text_augmentation.sentence_start == 0.5
    own = {"pairs__domain": "medical", "pairs__text_augmentation": {"word_dropout": 0.1}}
    assert setup_of(shape_recipe(tmp_path, pairs, **own)).text_augmentation.sentence_start == 0
    prompts = {"pairs__text_columns": [], "pairs__label_column": "kind"}
    classes = shape_recipe(tmp_path, pairs, pairs__domain="medical", **prompts)
    assert setup_of(classes).text_augmentation == TextAugmentation()


def test_a_killed_run_goes_on_with_the_same_bits(pairs, tmp_path):
    from maquette.lifecycle import resume_run

    class Stop(Exception):
        pass

    class Killer:
        def on_step(self, view: Any) -> None: ...

        def on_epoch_end(self, view: Any) -> None:
            if view.epoch == 2:
                raise Stop

        def on_end(self, view: Any) -> None: ...

    settings = {
        "training__epochs": 4,
        "training__effective_batch": 16,
        "training__batch_size": 8,
        "training__checkpoint": {"every_steps": 1},
        "pairs__resolution": {"multi_scale": [16, 24]},
        "pairs__augmentation": {"brightness": 0.3, "translate": 0.1},
        "pairs__text_augmentation": {"word_dropout": 0.3},
    }
    whole = quick(tmp_path / "whole", pairs, **settings)
    with pytest.raises(Stop):
        train(shape_recipe(tmp_path / "cut", pairs, **settings), callbacks=[Killer()])
    (folder,) = (tmp_path / "cut").iterdir()
    resumed = resume_run(folder)
    one, other = weights_of(whole), weights_of(resumed)
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finetune": {"wise_ft": True}}, "needs a checkpoint to start from"),
        ({"finetune": {"method": "lora"}}, "model.architecture.weights names none"),
        ({"finetune": {"method": "flyp"}}, "learns from class prompts, but the data has captions"),
        ({"contrastive": {"loss": "distillation"}}, "contrastive.teacher must name a checkpoint"),
        (
            {"contrastive": {"loss": "infonce", "parameters": {"label_smoothing": 2.0}}},
            "label_smoothing is 2",
        ),
        (
            {"contrastive": {"loss": "cyclip", "similarity": "euclidean"}},
            "which similarity 'euclidean' does not keep",
        ),
        ({"training__loss": "focal"}, "which pairs do not have"),
        ({"training__label_smoothing": 0.1}, "belong to classifiers"),
        ({"training__batch_size": 1}, "with one there is nothing to learn"),
        ({"pairs__domain": "medicl"}, "medical"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, words, pairs, tmp_path):
    with pytest.raises(UsageError, match=words):
        make_task(shape_recipe(tmp_path, pairs, **changes))


def test_an_unknown_loss_is_refused_before_the_data_is_read(tmp_path):
    recipe = shape_recipe(tmp_path, "nowhere.csv", contrastive={"loss": "infonse"})
    with pytest.raises(UsageError, match="Did you mean 'infonce'"):
        train(recipe)
    assert not any(tmp_path.iterdir())


def test_a_bundle_of_a_loss_of_ones_own_needs_no_loss(pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", LOSSES["infonce"])
    run = quick(tmp_path, pairs, contrastive={"loss": "mine"})
    monkeypatch.delitem(LOSSES, "mine")
    assert len(maquette.load(run.bundle).predict([maquette.load(run.bundle).example()])) == 1


def test_check_refuses_what_train_refuses(pairs, tmp_path):
    from maquette.tasks import check_data

    assert check_data(shape_recipe(tmp_path, pairs)).num_samples == 60
    for changes, words in (
        ({"contrastive": {"loss": "infonse"}}, "infonce"),
        ({"pairs__image_size": 20}, "multiples of the network's patch"),
        ({"training__batch_size": 1}, "nothing to learn"),
    ):
        with pytest.raises(UsageError, match=words):
            check_data(shape_recipe(tmp_path, pairs, **changes))


def test_the_tokenizer_of_an_average_must_be_the_checkpoints(pairs, tmp_path, checkpoint):
    changes = {
        "finetune": {"wise_ft": True},
        "model__name": "clip",
        "model__architecture": {"weights": str(checkpoint)},
        "pairs__tokenizer": "merges.txt",
    }
    with pytest.raises(UsageError, match="old token embeddings mean other words"):
        make_task(shape_recipe(tmp_path, pairs, **changes))


def test_an_image_size_must_divide_into_patches(pairs, tmp_path):
    with pytest.raises(UsageError, match=r"patch of 8 pixels.*20 \(nearest: 16\)"):
        train(shape_recipe(tmp_path, pairs, pairs__image_size=20))
    assert not any(tmp_path.iterdir())


def test_a_resnet_from_nothing_takes_whole_batches(pairs, tmp_path):
    changes = {"model__name": "clip_tiny_resnet", "pairs__image_size": 32}
    cut = {"training__batch_size": 8, "training__effective_batch": 16}
    with pytest.raises(UsageError, match="pieces of a batch do not have"):
        quick(tmp_path, pairs, **changes, **cut)
    assert quick(tmp_path, pairs, **changes).metrics["test/mean_recall"] >= 0


def test_a_checkpoint_of_another_network_is_refused(pairs, tmp_path, checkpoint):
    changes = {
        "model__name": "clip_small",
        "model__architecture": {"weights": str(checkpoint)},
        "pairs__image_size": 48,
    }
    with pytest.raises(UsageError, match=r"model\.name: clip_tiny"):
        quick(tmp_path, pairs, **changes)


def test_long_captions_are_told_or_refused(pairs, tmp_path):
    short = {"pairs__context_length": 4}
    with pytest.raises(DataError, match="longer than 4 tokens"):
        quick(tmp_path, pairs, pairs__long_captions="error", **short)
    run = quick(tmp_path, pairs, **short)
    assert "longer than 4 tokens and will be cut" in run.report.read_text()


def test_repeated_captions_are_told_with_the_loss_for_them(pairs, tmp_path):
    task = make_task(shape_recipe(tmp_path, pairs))
    warnings = " ".join(task.load().report.warnings)
    assert "unicl" in warnings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__name": "clip"}, "architecture.weights must name one"),
        ({"training__effective_batch": 101, "training__batch_size": 32}, "128 would do"),
        ({"training__effective_batch": 32, "training__accumulate": 2}, "the same thing twice"),
        ({"pairs__resolution": {"multi_scale": [16], "progressive": [{"until": 0.5, "size": 8}]}},
         "not both"),
        ({"pairs__resolution": {"progressive": [{"until": 0.5, "size": 8},
                                                {"until": 0.4, "size": 16}]}}, "until must rise"),
        ({"pairs__text_columns": []}, "label_column must name the classes"),
        ({"tune": {"space": {"training.learning_rate": {"low": 1, "high": 0.1}}}},
         "low 1 must be below high 0.1"),
        ({"tune": {"space": {"training.learning_rate": {"low": 0, "high": 0.1, "log": True}}}},
         "log needs low above 0"),
        ({"model__type": "vision"}, "not of type 'vision'"),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_meant(changes, words, pairs, tmp_path):
    with pytest.raises(RecipeError, match=words):
        shape_recipe(tmp_path, pairs, **changes)


def test_sections_of_pairs_belong_to_pairs(tmp_path):
    from maquette.recipe import make_recipe

    values = {
        "name": "x",
        "data": {"tabular": {"path": "x.csv", "target_column": "y"}},
        "model": {"type": "tabular", "name": "mlp"},
        "contrastive": {"loss": "infonce"},
    }
    with pytest.raises(RecipeError, match="has no section contrastive; remove it"):
        make_recipe(values)


def test_a_table_is_not_exported_or_measured_by_size(iris_run, tmp_path):
    with pytest.raises(UsageError, match="only image_text models"):
        export_bundle(iris_run.bundle, tmp_path / "out")
    with pytest.raises(UsageError, match="leave --sizes out"):
        evaluate_at_sizes(iris_run.bundle, [16])
