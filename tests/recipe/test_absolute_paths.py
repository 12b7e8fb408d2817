"""What a run saves can be repeated from any folder: every path in it is absolute, no name is."""

from pathlib import Path

from maquette.recipe import make_recipe, with_absolute_paths


def pairs(**changes: object) -> dict[str, object]:
    data = {"path": "pairs.csv", "image_size": 16} | changes
    return {
        "name": "x",
        "data": {"image_text": data},
        "model": {
            "type": "image_text",
            "name": "clip",
            "architecture": {"weights": "hub:openai/clip-vit-base-patch32"},
        },
        "contrastive": {"loss": "distillation", "teacher": "teacher/"},
    }


def test_paths_of_pairs_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = pairs(path="shards/*.tar", tokenizer="merges.txt", domain="mine.yaml")
    recipe = with_absolute_paths(make_recipe(given))
    data = recipe.data.image_text
    assert data is not None
    assert data.path == str(tmp_path / "shards/*.tar")
    assert data.tokenizer == str(tmp_path / "merges.txt")
    assert data.domain == str(tmp_path / "mine.yaml")
    assert recipe.contrastive is not None
    assert recipe.contrastive.teacher == str(tmp_path / "teacher")
    assert Path(data.path).is_absolute()


def test_names_stay_names():
    recipe = with_absolute_paths(make_recipe(pairs(path="catalogue:coco_captions_mini")))
    data = recipe.data.image_text
    assert data is not None
    assert (data.path, data.tokenizer, data.domain) == (
        "catalogue:coco_captions_mini",
        "auto",
        "general",
    )
    assert recipe.model.architecture.weights == "hub:openai/clip-vit-base-patch32"
