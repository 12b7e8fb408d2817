"""Weight files: what is read, renamed, adapted, reported and refused."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maquette.errors import DataError, UsageError
from maquette.tasks.vision.models import MODELS
from maquette.tasks.vision.weight_files import read_weights
from maquette.tasks.vision.weights import WeightReport, adapt_channels, load_weights


def network(name="resnet18", *, seed=0, num_classes=4, **options):
    """Build a network to save or to load into; ResNets are narrow, to be quick."""
    torch.manual_seed(seed)
    if name.startswith("resnet"):
        options = {"base_width": 8} | options
    return MODELS[name](num_classes=num_classes, **options)


def saved(tmp_path: Path, content, name: str = "weights.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def assert_same(model, state):
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_a_whole_file_is_loaded(tmp_path):
    state = network(seed=1).state_dict()
    model = network(seed=2)
    report = load_weights(model, saved(tmp_path, state))
    assert_same(model, state)
    assert report == WeightReport(
        loaded=tuple(state), missing=(), unexpected=(), shape_mismatched=(), adapted=()
    )
    assert str(report) == "loaded 122 tensors"


def test_safetensors_and_half_precision(tmp_path):
    state = network(seed=1).state_dict()
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "w"
    )
    model = network(seed=2)
    load_weights(model, tmp_path / "w")
    assert model.conv1.weight.dtype == torch.float32
    assert torch.equal(model.conv1.weight, state["conv1.weight"].half().float())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
        lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {"conv1.weight": torch.zeros(1)}, "state_dict_ema": state},
        lambda state: {"model": {"conv1.weight": torch.zeros(1)}, "ema": OrderedDict(state)},
        lambda state: {"model_ema": {"n_averaged": torch.tensor(5)} | state},
    ],
)
def test_checkpoints_and_wrappers(tmp_path, wrap):
    state = network(seed=1).state_dict()
    model = network(seed=2)
    load_weights(model, saved(tmp_path, wrap(state)))
    assert_same(model, state)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_head_for_other_classes_stays_new(tmp_path, name):
    path = saved(tmp_path, network(name, num_classes=10, seed=1).state_dict())
    model = network(name, num_classes=4, seed=2)
    head = f"{model.head_key}.weight"
    before = model.state_dict()[head].clone()
    report = load_weights(model, path)
    assert report.shape_mismatched == (head, f"{model.head_key}.bias")
    assert torch.equal(model.state_dict()[head], before)
    assert f"new, because the shape differs: {head}" in str(report)


def test_a_file_without_a_head(tmp_path):
    state = network(seed=1).state_dict()
    del state["fc.weight"], state["fc.bias"]
    assert load_weights(network(), saved(tmp_path, state)).missing == ("fc.weight", "fc.bias")


def test_old_files_without_step_counts(tmp_path):
    state = network(seed=1).state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("tracked")}
    assert len(load_weights(network(), saved(tmp_path, old)).missing) == 20


def test_a_small_stem_stays_new_and_is_reported(tmp_path):
    path = saved(tmp_path, network(seed=1).state_dict())
    for channels in (3, 1):
        report = load_weights(network(stem="small", in_channels=channels), path)
        assert report.shape_mismatched == ("conv1.weight",)
        assert len(report.loaded) == 121


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_grey_network_answers_like_the_rgb_one(tmp_path, name):
    rgb = network(name, seed=1).eval()
    grey = network(name, seed=2, in_channels=1).eval()
    report = load_weights(grey, saved(tmp_path, rgb.state_dict()))
    assert report.adapted == (f"{rgb.stem_key}.weight",)
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = rgb(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
def test_adapted_kernels_repeat_rgb_and_keep_the_scale(channels):
    kernels = torch.randn(8, 3, 3, 3)
    adapted = adapt_channels(kernels, channels)
    assert adapted.shape == (8, channels, 3, 3)
    if channels > 1:
        expected = torch.stack([kernels[:, i % 3] for i in range(channels)], dim=1) * 3 / channels
        torch.testing.assert_close(adapted, expected)
    if channels % 3 == 0 or channels == 1:
        torch.testing.assert_close(adapted.sum(dim=1), kernels.sum(dim=1))


def refused(error, model, path: Path) -> str:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error) as caught:
        load_weights(model, path)
    assert_same(model, before)
    return str(caught.value)


def test_another_network_is_refused_and_named(tmp_path):
    path = saved(tmp_path, network("resnet34", base_width=64).state_dict())
    message = refused(UsageError, network("resnet18", base_width=64), path)
    assert message.startswith(f"The weights in {path} do not fit this network; nothing was loaded.")
    assert "80 unknown to the network: layer1.2.conv1.weight" in message
    assert "and 72 more" in message
    assert message.endswith("It holds a resnet34: set model.name: resnet34 with base_width: 64.")


def test_another_efficientnet_is_refused_and_named(tmp_path):
    path = saved(tmp_path, network("efficientnet_b1").state_dict())
    message = refused(UsageError, network("efficientnet_b0"), path)
    assert message.endswith("It holds an efficientnet_b1: set model.name: efficientnet_b1.")


def test_a_narrow_network_does_not_take_the_papers_width(tmp_path):
    path = saved(tmp_path, network(base_width=64).state_dict())
    message = refused(UsageError, network(base_width=16), path)
    assert (
        "102 of another shape: conv1.weight (64, 3, 7, 7) instead of (16, 3, 7, 7)" not in message
    )
    assert "of another shape: conv1.weight (64, 3, 7, 7) instead of (16, 3, 7, 7)" in message
    assert message.endswith("set model.name: resnet18 with base_width: 64.")


def test_missing_layers_are_refused_with_the_nearest_network(tmp_path):
    state = network(base_width=64).state_dict()
    del state["layer3.0.conv1.weight"]
    message = refused(UsageError, network(base_width=64), saved(tmp_path, state))
    assert "1 missing in the file: layer3.0.conv1.weight." in message
    assert "The nearest network is resnet18 with base_width: 64; 99% of the keys fit it." in message


def test_weights_of_something_else_entirely(tmp_path):
    path = saved(tmp_path, {"encoder.weight": torch.zeros(3, 3)})
    assert "It fits none of resnet18, resnet34" in refused(UsageError, network(), path)


def test_missing_file_and_folder(tmp_path):
    message = refused(UsageError, network(), tmp_path / "no.pth")
    assert message == (
        f"model.architecture.weights: {tmp_path / 'no.pth'} does not exist; "
        "give a .safetensors, .pt or .pth file."
    )
    assert f"{tmp_path} is a folder; give" in refused(UsageError, network(), tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not a weight file: it begins with b''"),
        (b"<!DOCTYPE html><html>", "is not a weight file: it begins with b'<!DOCTYPE html><'"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "It is a Git LFS pointer; fetch the"),
        (b"\x08\0\0\0\0\0\0\0{broken}", "is a damaged safetensors file: "),
        (b"PK\x03\x04 and then nothing of a zip", "is damaged: "),
        (b"\x80\x02 and then nothing of a pickle", "is damaged: "),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, expected):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    message = refused(DataError, network(), path)
    assert message.startswith(str(path))
    assert expected in message


def test_a_truncated_file_is_damaged(tmp_path):
    whole = saved(tmp_path, network().state_dict()).read_bytes()
    path = tmp_path / "half.pth"
    path.write_bytes(whole[: len(whole) // 2])
    message = refused(DataError, network(), path)
    assert message.startswith(f"{path} is damaged: ")
    assert message.endswith("Download or copy it again and compare its checksum.")


class Code:
    """What a malicious checkpoint does: unpickling it would call a function."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capfd, legacy):
    path = tmp_path / "weights.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"conv1.weight": Code()}, protocol=2))
    else:
        torch.save({"conv1.weight": Code()}, path)
    message = refused(DataError, network(), path)
    assert "could run code, so it was not opened. Save the weights alone" in message
    assert "print" in message
    assert "never be printed" not in capfd.readouterr().out


def test_a_whole_saved_module_is_refused_with_the_way_out(tmp_path):
    message = refused(DataError, network(), saved(tmp_path, network()))
    assert "(maquette.tasks.vision.resnet.ResNet)" in message
    assert "torch.save(model.state_dict(), 'weights.pth')" in message


@pytest.mark.parametrize("content", [{"epoch": 3, "lr": 0.1}, [1, 2], {}])
def test_files_without_tensors(tmp_path, content):
    path = saved(tmp_path, content)
    with pytest.raises(DataError, match="holds no tensors, only"):
        read_weights(path)


def test_not_finite_weights_are_refused(tmp_path):
    state = network().state_dict()
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    message = refused(DataError, network(), saved(tmp_path, state))
    assert "holds NaN or infinity in layer2.0.conv1.weight" in message
