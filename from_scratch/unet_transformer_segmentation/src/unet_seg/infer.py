"""Inference: a network and an image in, a mask of the image's own size out.

Start reading at `predict`. What happens to an image is what happened to those of the validation:
channels, size and normalisation of the configuration. Logits are brought back to the image's own
size before a class is chosen. `infer_paths` does this for files and folders.

Letters: N classes, C channels, H, W the image as given, h, w as the network sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unet_seg.config import DataConfig
from unet_seg.data.sample import Sample
from unet_seg.data.transforms import GREY, prepare
from unet_seg.errors import SegError
from unet_seg.image_files import overlay, palette, read_image, write_mask, write_png
from unet_seg.image_paths import find_images, output_names
from unet_seg.preview import to_picture
from unet_seg.runs import write_atomic
from unet_seg.sliding import check_windows, model_device, sliding_window

if TYPE_CHECKING:
    from unet_seg.checkpoints import LoadedModel

WHOLE_PIXELS = 2**19
"""Larger images, in pixels as the network sees them, go through windows; 512 x 1024 goes whole."""

WINDOW = 512
"""Side of those windows where none is named."""

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes mirrored in the four views of test-time augmentation."""

DTYPES = ("uint8", "float32", "float16", "bfloat16", "float64")

Image: TypeAlias = Tensor | NDArray[Any]
"""Tensor (C,H,W), or NumPy array (H,W) or (H,W,C); uint8, or floating point in [0, 1]."""


def predict(
    model: nn.Module | LoadedModel,
    image: Image,
    *,
    data: DataConfig | None = None,
    window: int | None = None,
    overlap: float = 0.5,
    tta: bool = False,
) -> NDArray[np.uint8]:
    """The class of every pixel.

    Args:
        model: what `checkpoints.load_model` returns, or any module (B,C,h,w) -> (B,N,h,w). One
            logit channel means two classes, 1 where the logit is positive.
        image: uint8 or floating point in [0, 1]; tensor (C,H,W), or array (H,W) or (H,W,C). C is 1,
            3 or 4, and the fourth channel (alpha) is dropped; grey becomes RGB, or colour grey, as
            the network needs.
        data: how images are prepared; by default as in training if the model was loaded, else
            `DataConfig()`, with 1 channel if that is the module's attribute `in_channels`.
        window: side of the sliding window in pixels; None takes the whole image at once up to
            `WHOLE_PIXELS` pixels and windows of `WINDOW` above.
        overlap: of the windows, 0 to 0.9.
        tta: average the logits of the four mirrored views; takes four times as long.
    Returns:
        (H,W) uint8 class ids.
    Raises:
        SegError: the image is not as described, holds NaN or has no pixels; window or overlap out
            of range.
    """
    logits_NHW = predict_logits(model, image, data=data, window=window, overlap=overlap, tta=tta)
    if len(logits_NHW) == 1:
        return (logits_NHW[0] > 0).to(torch.uint8).numpy()
    return logits_NHW.argmax(0).to(torch.uint8).numpy()


@torch.inference_mode()
def predict_logits(
    model: nn.Module | LoadedModel,
    image: Image,
    *,
    data: DataConfig | None = None,
    window: int | None = None,
    overlap: float = 0.5,
    tta: bool = False,
) -> Tensor:
    """The logits `predict` chooses from: (N,H,W) float32 on the CPU. Arguments as there."""
    check_windows(WINDOW if window is None else window, overlap)
    network, data, image_CHW = _network_and_image(model, image, data)
    mask_HW = torch.zeros(image_CHW.shape[-2:], dtype=torch.uint8)
    view_1Chw = prepare(Sample(image_CHW, mask_HW, "predict"), data).image[None]
    with _eval_mode(network):
        total_1Nhw: Tensor | None = None
        for axes in FLIPS if tta else FLIPS[:1]:
            logits_1Nhw = _run(network, view_1Chw.flip(axes), window, overlap).flip(axes)
            total_1Nhw = logits_1Nhw if total_1Nhw is None else total_1Nhw.add_(logits_1Nhw)
    assert total_1Nhw is not None
    if tta:
        total_1Nhw /= len(FLIPS)
    if total_1Nhw.shape[-2:] != mask_HW.shape:
        total_1Nhw = F.interpolate(
            total_1Nhw, tuple(mask_HW.shape), mode="bilinear", align_corners=False
        )
    return total_1Nhw[0]


def _run(model: nn.Module, image_1Chw: Tensor, window: int | None, overlap: float) -> Tensor:
    """Logits (1,N,h,w) float32 on the CPU, of the whole image at once or in windows."""
    h, w = image_1Chw.shape[-2:]
    if window is None and h * w > WHOLE_PIXELS:
        window = WINDOW
    device = model_device(model)
    if window is not None and max(h, w) > window:
        batch_size = 1 if device.type == "cpu" else 4
        return sliding_window(
            model, image_1Chw, window=window, overlap=overlap, batch_size=batch_size
        )
    logits: Tensor = model(image_1Chw.to(device))
    return logits.float().cpu()


def _network_and_image(
    model: nn.Module | LoadedModel, image: Image, data: DataConfig | None
) -> tuple[nn.Module, DataConfig, Tensor]:
    """The module, how to prepare, and the image (C,H,W) with as many channels as that says."""
    image_CHW = _to_tensor(image)
    if isinstance(model, nn.Module):
        network = model
        takes_grey = getattr(model, "in_channels", 3) == 1
        data = data or DataConfig(channels=1 if takes_grey else 3)
    else:
        network, data = model.model, data or model.config.data
    return network, data, to_channels(image_CHW, data.channels)


def _to_tensor(image: Image) -> Tensor:
    """An image in any of the forms `predict` takes as (C,H,W) on the CPU, uint8 or float32."""
    if not isinstance(image, (Tensor, np.ndarray)):
        raise SegError(
            f"image is of type {type(image).__name__}, expected a tensor or a NumPy array; "
            "numpy.asarray(image) makes one of a Pillow image."
        )
    dtype, shape = str(image.dtype).removeprefix("torch."), tuple(image.shape)
    if dtype not in DTYPES:
        raise SegError(
            f"image has dtype {dtype}, expected uint8 in [0, 255] or floating point in [0, 1]; "
            "divide by the largest value its pixels can have."
        )
    if isinstance(image, np.ndarray):
        image = image[..., None] if image.ndim == 2 else image
    channel_axis = 0 if isinstance(image, Tensor) else -1
    if image.ndim != 3 or image.shape[channel_axis] not in (1, 3, 4):
        form = "(C,H,W)" if isinstance(image, Tensor) else "(H,W) or (H,W,C)"
        raise SegError(f"image has shape {shape}, expected one image {form} with C = 1, 3 or 4.")
    if isinstance(image, np.ndarray):
        # A copy, for PyTorch takes no negative strides (image[::-1]) nor read-only memory (Pillow).
        image = torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
    return image.detach().cpu() if image.dtype == torch.uint8 else image.detach().cpu().float()


def to_channels(image: Tensor, channels: int) -> Tensor:
    """Grey to RGB or colour to grey, alpha dropped: (1, 3 or 4, H, W) -> (channels,H,W).

    Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); uint8 stays uint8, rounded.
    """
    image = image[:3]
    if len(image) == channels:
        return image
    if channels != 1:
        return image.expand(channels, -1, -1)
    grey_1HW = torch.einsum("chw,c->hw", image.float(), torch.tensor(GREY))[None]
    return grey_1HW.round_().to(torch.uint8) if image.dtype == torch.uint8 else grey_1HW


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Use the network as it is meant to be used, and leave it in the mode it was found in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class InferReport:
    """What `infer_paths` did."""

    written: list[Path] = field(default_factory=list)
    """The masks, in the order of the inputs."""
    errors: list[str] = field(default_factory=list)
    """A message for each input that gave no mask."""


def infer_paths(
    loaded: LoadedModel,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    window: int | None = None,
    overlap: float = 0.5,
    tta: bool = False,
    overlay_alpha: float = 0.5,
) -> InferReport:
    """Segment image files; each gives NAME_mask.png, NAME_overlay.png and NAME.json.

    Args:
        loaded: from `checkpoints.load_model`.
        inputs: image files, folders (their images, not those of folders in them) and globs such as
            "scans/**/*.png".
        out: folder to write to; made if absent. NAME is the file's stem or, where several inputs
            share one, its path below their common folder joined by "-".
        window, overlap, tta: as for `predict`.
        overlay_alpha: opacity of the classes over the image, 0 to 1.
    Returns:
        What was written, and a message for each file that could not be read or whose result would
        overwrite an input; the others are done all the same.
    Raises:
        SegError: a setting out of range, or `out` cannot be a folder.
    """
    from tqdm import tqdm

    out = Path(out)
    if not 0 <= overlay_alpha <= 1:
        raise SegError(f"alpha={overlay_alpha:g} must be in [0, 1].")
    check_windows(WINDOW if window is None else window, overlap)
    make_folder(out)
    report = InferReport()
    paths = find_images(inputs, report.errors)
    sources = {path.resolve() for path in paths}
    options: dict[str, Any] = {"window": window, "overlap": overlap, "tta": tta}
    for path, name in tqdm(
        list(zip(paths, output_names(paths), strict=True)), unit="image", disable=None
    ):
        targets = [out / f"{name}{ending}" for ending in ("_mask.png", "_overlay.png", ".json")]
        taken = [target for target in targets if target.resolve() in sources]
        if taken:
            report.errors.append(
                f"{path}: its result {taken[0]} would overwrite that input; choose another --out."
            )
            continue
        try:
            _infer_file(loaded, path, targets, overlay_alpha, options)
        except SegError as error:
            message = str(error)
            report.errors.append(message if str(path) in message else f"{path}: {message}")
        else:
            report.written.append(targets[0])
    return report


def make_folder(path: Path) -> None:
    """Make a folder for results; SegError if it cannot be, before any work is done in vain."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegError(
            f"{path}: cannot be made a folder ({error.strerror}); name another --out."
        ) from None


def _infer_file(
    loaded: LoadedModel, path: Path, targets: Sequence[Path], alpha: float, options: dict[str, Any]
) -> None:
    image_CHW = read_image(path, loaded.config.data.channels)
    mask_HW = predict(loaded, image_CHW, **options)
    colours = palette(len(loaded.classes))
    mask_path, overlay_path, json_path = targets
    write_mask(mask_path, mask_HW, colours)
    picture = to_picture(Sample(image_CHW, torch.from_numpy(mask_HW), path.stem))
    write_png(overlay_path, overlay(picture, mask_HW, colours, alpha))
    result = {
        "image": str(path),
        "mask": mask_path.name,
        "overlay": overlay_path.name,
        **areas(mask_HW, loaded.classes),
        "checkpoint": str(loaded.path),
        "step": loaded.step,
        **options,
    }
    write_atomic(json_path, dumps(result, indent=2) + "\n")


def areas(mask: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, Any]:
    """Size of a mask (H,W), and of each class the pixels and their part of all pixels."""
    counts = np.bincount(mask.ravel(), minlength=len(classes)).tolist()
    return {
        "height": mask.shape[0],
        "width": mask.shape[1],
        "classes": {
            name: {"pixels": count, "fraction": count / mask.size}
            for name, count in zip(classes, counts, strict=True)
        },
    }
