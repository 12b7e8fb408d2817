"""Recipes: what is read, and what every mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette.errors import RecipeError
from maquette.recipe import Recipe, dump_recipe, make_recipe, read_recipe, with_absolute_paths
from maquette.recipe.schema import Section

GOOD = """\
name: iris
data:
  tabular:
    path: data/sample/iris.csv
    target_column: species
    train_split: 0.6
    validation_split: 0.2
    test_split: 0.2
    preprocessing:
      normalize: true
model:
  type: tabular
  name: mlp
  architecture:
    hidden_layers: [16, 8]
training:
  epochs: 3
  learning_rate: 1e-3
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_recipe(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


def problem(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(path, overrides)
    return str(caught.value)


def test_reads_every_section(write):
    recipe = read_recipe(write(GOOD))
    assert recipe.data.tabular is not None
    assert recipe.data.tabular.train_split == 0.6
    assert recipe.model.architecture.hidden_layers == (16, 8)
    assert recipe.training.learning_rate == 1e-3, "YAML 1.1 reads 1e-3 as text; a recipe may not"


def test_the_product_specification_keys_are_read_as_written(write):
    """Section 7 of the product specification, key for key."""
    recipe = read_recipe(
        write(
            """\
name: spec
data:
  tabular:
    path: a.csv
    schema: a.json
    target_column: y
    train_split: 0.7
    validation_split: 0.15
    test_split: 0.15
    preprocessing:
      normalize: true
      handle_missing: median
      categorical_encoding: onehot
model:
  type: tabular
  name: mlp
  architecture:
    input_dim: 4
    hidden_layers: [64, 32]
    dropout: 0.1
    activation: relu
training:
  epochs: 10
  batch_size: 16
  learning_rate: 0.001
  optimizer: adam
  loss: cross_entropy
  early_stopping:
    enabled: true
    patience: 5
    monitor: valid/loss
  checkpoint:
    enabled: true
    save_best: true
    path: checkpoints
"""
        )
    )
    assert recipe.data.tabular is not None
    assert recipe.data.tabular.schema_path == "a.json"
    image = make_recipe(
        {
            "name": "spec",
            "data": {
                "image": {
                    "path": "images",
                    "image_size": [64, 48],
                    "augmentation": {
                        "horizontal_flip": True,
                        "rotation_range": 15,
                        "normalize": True,
                    },
                }
            },
            "model": {"type": "vision", "name": "resnet18"},
        }
    )
    assert image.data.image is not None
    assert image.data.image.image_size == (64, 48)


def test_overrides_change_values_and_add_sections(write):
    recipe = read_recipe(
        write(GOOD), ["training.epochs=9", "training.early_stopping.patience=2", "seed=7"]
    )
    assert (recipe.training.epochs, recipe.training.early_stopping.patience) == (9, 2)
    assert recipe.seed == 7


def test_the_resolved_recipe_repeats_itself(write, tmp_path):
    recipe = read_recipe(write(GOOD), ["training.ema_decay=0.99"])
    again = tmp_path / "resolved.yaml"
    again.write_text(dump_recipe(recipe), encoding="utf-8")
    assert read_recipe(again) == recipe
    assert "batch_size" in again.read_text(encoding="utf-8"), "defaults are written out"


def test_every_key_is_documented():
    def sections(model: type[Section]) -> set[type[Section]]:
        found = {model}
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found |= sections(field.annotation)
        return found

    for section in sections(Recipe):
        assert section.__doc__, section


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "normalize: true",
            "normalise: true",
            [":10: unknown key 'data.tabular.preprocessing.normalise'", "Did you mean 'normalize'"],
        ),
        ("epochs: 3", "epochs: three", [":17: training.epochs is 'three'", "valid integer"]),
        ("epochs: 3", "epochs: -1", [":17: training.epochs is -1", "greater than or equal to 1"]),
        (
            "name: mlp",
            "name: mlpp",
            [":13: model.name is 'mlpp'", "Did you mean 'mlp'", "resnet50"],
        ),
        ("name: mlp", "name: resnet18", [":11: model", "not of type 'tabular'; expected mlp"]),
        ("type: tabular", "type: vision", [":11: model", "'mlp' is not of type 'vision'"]),
        (
            "test_split: 0.2",
            "test_split: 0.3",
            [":3: data.tabular", "0.6 + validation_split 0.2", "= 1.1, expected 1", "0.2 would do"],
        ),
        (
            "test_split: 0.2",
            "test_split: 0.0\n    train_split: 0.8",
            [":9: the key 'train_split' was already given on line 6"],
        ),
        ("    target_column: species\n", "", ["'data.tabular.target_column' is missing"]),
        ("  epochs: 3", "   epochs: 3", ["not valid YAML"]),
        ("[16, 8]", "[16, eight]", [":15: model.architecture.hidden_layers.1 is 'eight'"]),
        ("name: iris", "name: ../iris", [":1: name is '../iris'", "pattern"]),
        (
            "training:",
            "training:\n  warmup_epochs: 3",
            [":16: training: warmup_epochs 3 must be less than epochs 3"],
        ),
        (
            "training:",
            "training:\n  final_learning_rate: 1",
            ["final_learning_rate 1 is above learning_rate 0.001"],
        ),
    ],
)
def test_mistakes_name_their_place_and_their_fix(write, old, new, expected):
    message = problem(write(GOOD.replace(old, new, 1)))
    for part in expected:
        assert part in message
    assert "recipe.yaml" in message


def test_every_problem_is_listed_at_once(write):
    message = problem(write(GOOD), "training.epochs=0", "training.batchsize=3")
    assert len(message.splitlines()) == 2
    assert "the override training.epochs=0: training.epochs is 0" in message
    assert "Did you mean 'batch_size'" in message


def test_a_missing_file_says_how_to_make_one(write, tmp_path):
    write(GOOD)
    message = problem(tmp_path / "recip.yaml")
    assert "There is no recipe" in message
    assert "Did you mean" in message
    assert "maquette init" in message


def test_files_that_are_not_recipes(write, tmp_path):
    assert "an empty file" in problem(write(""))
    assert "a recipe is a mapping" in problem(write("- 1\n- 2\n"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "Could not read the recipe" in problem(tmp_path / "binary.yaml")
    assert "Could not read the recipe" in problem(tmp_path)


def test_override_mistakes(write):
    path = write(GOOD)
    assert "expected KEY=VALUE" in problem(path, "training.epochs")
    assert "nothing can be set inside it" in problem(path, "name.first=x")
    assert "is not a YAML value" in problem(path, "name=[1")


def test_data_and_model_must_agree():
    base = {"name": "x", "model": {"type": "tabular", "name": "mlp"}}
    with pytest.raises(RecipeError, match=r"so data\.tabular must be given"):
        make_recipe({**base, "data": {}})
    both = {
        "tabular": {"path": "a.csv", "target_column": "y"},
        "image": {"path": "images", "image_size": [8, 8]},
    }
    with pytest.raises(RecipeError, match=r"data\.image is not used; remove it"):
        make_recipe({**base, "data": both})


def test_split_rules_that_need_a_column():
    values = {
        "name": "x",
        "data": {"tabular": {"path": "a.csv", "target_column": "y", "split": {"method": "time"}}},
        "model": {"type": "tabular", "name": "mlp"},
    }
    with pytest.raises(RecipeError, match=r"needs split\.column"):
        make_recipe(values)


def test_a_zero_split_is_refused():
    splits = {"train_split": 1.0, "validation_split": 0.0, "test_split": 0.0}
    values = {
        "name": "x",
        "data": {"tabular": {"path": "a.csv", "target_column": "y", **splits}},
        "model": {"type": "tabular", "name": "mlp"},
    }
    with pytest.raises(RecipeError, match="validation_split is 0; every split needs samples"):
        make_recipe(values)


def test_augmentation_scale_in_order():
    image = {"path": "i", "image_size": [8, 8], "augmentation": {"scale": [1.2, 0.8]}}
    values = {
        "name": "x",
        "data": {"image": image},
        "model": {"type": "vision", "name": "resnet18"},
    }
    with pytest.raises(RecipeError, match=r"must be \[smallest, largest\]"):
        make_recipe(values)


def test_absolute_paths_let_a_run_be_repeated_from_anywhere(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = with_absolute_paths(read_recipe(write(GOOD), ["data.tabular.schema=s.json"]))
    assert recipe.data.tabular is not None
    assert recipe.data.tabular.path == str(tmp_path / "data/sample/iris.csv")
    assert recipe.data.tabular.schema_path == str(tmp_path / "s.json")
    named = read_recipe(write(GOOD), ["data.tabular.path=catalogue:adult"])
    assert with_absolute_paths(named).data.tabular.path == "catalogue:adult"
    image = make_recipe(
        {
            "name": "x",
            "data": {"image": {"path": "images", "image_size": [8, 8]}},
            "model": {
                "type": "vision",
                "name": "resnet18",
                "architecture": {"weights": "resnet.safetensors"},
            },
        }
    )
    image = with_absolute_paths(image)
    assert image.data.image.path == str(tmp_path / "images")
    assert image.model.architecture.weights == str(tmp_path / "resnet.safetensors")
