"""Bad input as users meet it, through the command line: each failure says what to do, and exits 1.

These are the entries of docs/TROUBLESHOOTING.md. The functions behind them have tests of their own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import Dataset

from unet_seg import cli
from unet_seg.checkpoints import load_model
from unet_seg.config import DataConfig, config_to_dict
from unet_seg.data.batches import train_batches
from unet_seg.data.build import class_shares
from unet_seg.data.sample import Sample
from unet_seg.data.toy import ToyShapes, export
from unet_seg.devices import explain_out_of_memory
from unet_seg.errors import SegError
from unet_seg.infer import predict
from unet_seg.models import build_model
from unet_seg.train import train

MODEL = {"widths": [4, 8, 8], "norm": "group"}
LOOP = {"steps": 2, "batch_size": 2, "valid_every": 2, "checkpoint_every": 2, "device": "cpu"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Toy data as files, eight images of each split, with data.yaml to read them."""
    for split in ("train", "valid", "test"):
        export(ToyShapes(num_samples=8, split=split, image_size=(16, 16)), tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    code = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The error of a command that must fail with exit code 1 and no traceback."""
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def check(capsys: pytest.CaptureFixture[str], root: Path, *overrides: str) -> str:
    return refused(capsys, "check", "--config", root / "data.yaml", *overrides)


def test_missing_mask(capsys, root):
    (root / "masks/train_00003.png").unlink()
    err = check(capsys, root)
    assert "1 problem in the images and masks" in err
    assert f"{root}/images/train_00003.png has no mask {root}/masks/train_00003.png" in err
    err = check(capsys, root, "data.folder.manifest=null")
    assert f"images/train_00003.png: has no mask {root}/masks/train_00003.png" in err


def test_size_mismatch_names_both_files(capsys, root):
    path = root / "masks/valid_00001.png"
    Image.open(path).crop((0, 0, 16, 15)).save(path)
    err = check(capsys, root)
    assert f"{path}: is 15x16 (height x width), but {root}/images/valid_00001.png is 16x16" in err


def test_truncated_image(capsys, root):
    path = root / "images/test_00002.png"
    path.write_bytes(path.read_bytes()[:300])
    assert f"{path}: is broken or truncated" in check(capsys, root)


def test_mask_value_outside_the_class_map(capsys, root):
    path = root / "masks/train_00000.png"
    mask = np.array(Image.open(path))
    mask[0, :3] = 9
    Image.fromarray(mask).save(path)
    err = check(capsys, root)
    assert f"{path}: mask values outside the class map: 9 (3 pixels)." in err


def test_all_of_them_at_once(capsys, root):
    (root / "masks/train_00003.png").unlink()
    (root / "images/train_00004.png").write_bytes(b"")
    err = check(capsys, root)
    assert "2 problems in the images and masks" in err
    assert "train_00003" in err
    assert "train_00004" in err


def test_nan_in_an_image(capsys, root):
    image = np.zeros((16, 16), dtype=np.float32)
    image[0, 0] = np.nan
    np.save(root / "images/train_00000.npy", image)
    (root / "images/train_00000.png").unlink()
    err = check(capsys, root, "data.folder.manifest=null")
    assert "train_00000.npy: 1 of 256 values are NaN or infinite" in err


def test_nan_given_to_predict():
    model = build_model({"widths": [4, 8], "num_classes": 2})
    with pytest.raises(SegError, match="holds 768 values that are not finite; the first is NaN"):
        predict(model, np.full((16, 16, 3), np.nan, dtype=np.float32))


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("data.folder.images=nothing", "nothing: no such folder. data.folder.images names it"),
        ("data.folder.images=empty", "empty: holds no images (.png, .jpg"),
    ],
)
def test_empty_dataset(capsys, root, override, text):
    (root / "empty").mkdir()
    assert text in check(capsys, root, "data.folder.manifest=null", override)


def test_empty_manifest(capsys, root):
    (root / "manifest.csv").write_text("image,mask,split\n")
    assert "manifest.csv: lists no images, so there is no data." in check(capsys, root)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_an_image_smaller_than_one_stride_works(size):
    model = build_model({"widths": [4, 8, 8, 8], "num_classes": 2}).eval()
    assert model.stride == 8
    assert predict(model, np.zeros((*size, 3), dtype=np.uint8)).shape == size


def test_an_image_without_pixels_does_not():
    model = build_model({"widths": [4, 8], "num_classes": 2})
    with pytest.raises(SegError, match=r"has no pixels, its size is \(0, 5\)"):
        predict(model, np.zeros((0, 5, 3), dtype=np.uint8))


def test_a_run_resumed_with_another_architecture(capsys, make_config):
    config = make_config(train={"steps": 2, "valid_every": 2})
    folder = train(config, progress=False)
    values = config_to_dict(config)
    values["model"]["widths"] = [4, 8, 12]
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    capsys.readouterr()  # what the training said
    err = refused(capsys, "train", "--resume", folder, "--quiet")
    assert "last.pt: holds the weights of another architecture: " in err
    assert "(8, 8, 3, 3), expected (12, 8, 3, 3)" in err
    # A checkpoint carries its own configuration, so using it does not depend on that file.
    assert load_model(folder, "cpu").config == config


def test_unknown_key(capsys, root):
    err = check(capsys, root, "train.batchsize=4")
    assert "unknown key train.batchsize. Did you mean train.batch_size?" in err


def test_unquoted_colour(capsys, root):
    text = (root / "data.yaml").read_text()
    start = text.index("class_map")
    (root / "block.yaml").write_text(
        text[:start] + "class_map:\n      sky: #000000\n      sea: #0000ff\n"
    )
    err = refused(capsys, "check", "--config", root / "block.yaml")
    assert "data.folder.class_map.sky holds nothing, expected a whole number or text or a" in err
    assert 'An unquoted # starts a comment in YAML: write "#ff0000".' in err
    (root / "flow.yaml").write_text(text[:start] + "class_map: {sky: #000000, sea: #0000ff}\n")
    err = refused(capsys, "check", "--config", root / "flow.yaml")
    assert "flow.yaml:" in err
    assert "is not YAML: " in err
    assert 'An unquoted # starts a comment in YAML: write "#ff0000".' in err


def test_a_loss_that_explodes(capsys, root):
    values = yaml.safe_load((root / "data.yaml").read_text())
    values |= {"out": str(root / "runs"), "model": MODEL, "train": {**LOOP, "steps": 20}}
    values["optim"] = {"lr": 1e30, "warmup_steps": 0, "grad_clip": None, "name": "sgd"}
    (root / "explodes.yaml").write_text(yaml.safe_dump(values))
    err = run(capsys, "train", "--config", root / "explodes.yaml", "--quiet")[2]
    assert "the loss is nan; the first output that is not finite comes from" in err
    assert "The weights were not updated. Try optim.lr below 9.9" in err


def test_out_of_memory(capsys, root):
    # More than a 64-bit process can address, so that no setting of the system lets it through.
    err = refused(capsys, "profile", "--config", root / "data.yaml", "--size", 4_000_000, 4_000_000)
    assert err.startswith("error: out of memory (")
    assert "train.accumulate=2 or more" in err
    assert "--window 256" in err


def test_what_counts_as_out_of_memory():
    assert explain_out_of_memory(torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"))
    assert explain_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert "(MemoryError)" in str(explain_out_of_memory(MemoryError()))
    assert explain_out_of_memory(RuntimeError("shapes do not match")) is None


def test_another_runtime_error_keeps_its_traceback(monkeypatch, root):
    def broken(*_arguments, **_options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("unet_seg.data.build.build_datasets", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        cli.main(["check", "--config", str(root / "data.yaml")])


class Damaged(Dataset[Sample]):
    """A dataset whose second sample cannot be read."""

    classes = ("background", "thing")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            raise SegError("images/b.png: is broken or truncated.")
        image = torch.zeros(3, 8, 8, dtype=torch.uint8)
        return Sample(image, torch.zeros(8, 8, dtype=torch.uint8), "a")


@pytest.mark.skipif(sys.platform == "win32", reason="a worker takes too long to start there")
def test_an_error_in_a_worker_arrives_as_it_was_raised():
    batches = train_batches(Damaged(), DataConfig(), seed=0, batch_size=2, steps=1, num_workers=1)
    with pytest.raises(SegError) as caught:
        next(batches)
    assert str(caught.value) == "images/b.png: is broken or truncated."


def test_a_class_that_is_never_in_train_is_told(capsys, root):
    config = root / "toy.yaml"
    config.write_text("data: {toy: {image_size: [16, 16], num_train: 4, shapes: [circle, ring]}}\n")
    arguments = ["check", "--config", config, "data.toy.num_valid=2", "data.toy.num_test=2"]
    code, out, err = run(capsys, *arguments, "data.toy.class_weights=[1, 0]")
    assert code == 0
    assert out.startswith("train: 4 images; background ")
    assert "ring 0.00 %" in out.splitlines()[0]
    assert err == (
        "warning: class ring is on no pixel of train, so it cannot be learned; look at class_map "
        "and at the splits.\n"
    )
    assert run(capsys, *arguments)[2] == ""


def test_shares_do_not_count_ignored_pixels():
    class One:
        classes = ("background", "thing")

        def __len__(self):
            return 1

        def __getitem__(self, index):
            mask = torch.tensor([[0, 1, 1, 255]], dtype=torch.uint8)
            return Sample(torch.zeros(3, 1, 4), mask, "one")

    assert class_shares(One()) == {"background": 1 / 3, "thing": 2 / 3}


def test_a_prediction_of_background_alone_shows_in_the_table(capsys, make_config):
    run_folder = train(make_config(train={"steps": 1, "valid_every": 1}), progress=False)
    state = torch.load(run_folder / "checkpoints/best.pt", weights_only=True)
    state["model"]["head.conv.bias"][0] = 1e6
    torch.save(state, run_folder / "checkpoints/best.pt")
    code, out, _ = run(capsys, "evaluate", "--run", run_folder, "--device", "cpu")
    assert code == 0
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert float(rows["background"][1]) > 0.5
    assert all(float(rows[name][1]) == 0 for name in ("circle", "ring", "line"))


def test_the_working_folder_is_named_when_the_root_is_missing(capsys, root):
    err = check(capsys, root, "data.folder.root=elsewhere")
    assert f"data.folder.root=elsewhere: no such folder (seen from {os.getcwd()})" in err  # noqa: PTH109
