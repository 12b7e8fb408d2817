"""The recipe: every key a YAML file may hold, with its type, its range and what it does.

Start at `Recipe` at the bottom; the sections above it are in the order of the file. Values are
frozen once read. Unknown keys are errors. The sentence under a field is its documentation.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from maquette.recipe.augmentation import Augmentation
from maquette.recipe.image_text import Contrastive, Finetune, ImageTextData, Tune
from maquette.recipe.section import Section
from maquette.recipe.splitting import SplitRule, Splitting

__all__ = ["Architecture", "Data", "ImageData", "Recipe", "Section", "SplitRule", "TabularData"]

Activation = Literal["relu", "gelu", "silu", "mish", "selu", "tanh", "leaky_relu"]
ModelName = Literal[
    "mlp",
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "clip",
    "clip_tiny",
    "clip_small",
    "clip_tiny_resnet",
    "clip_vit_b32",
    "clip_vit_b16",
    "clip_vit_l14",
    "clip_vit_l14_336",
    "clip_rn50",
]


class TabularPreprocessing(Section):
    """How columns become numbers; fitted on the training rows only."""

    normalize: bool = True
    """Put numeric columns on one scale, by the method of `scaling`."""
    scaling: Literal["standard", "robust", "quantile"] = "standard"
    """Mean and deviation; median and quartiles with a smooth clip; or ranks to a normal curve."""
    handle_missing: Literal["median", "mean", "zero", "error"] = "median"
    """What stands in for a missing number; missing categories have their own slot."""
    missing_indicator: bool = True
    """Add a 0/1 column for each numeric column that has missing values in the training rows."""
    categorical_encoding: Literal["onehot", "ordinal", "embedding"] = "onehot"
    """How categories enter the network; unseen categories have a slot of their own in all three."""
    max_categories: Annotated[int, Field(ge=2)] = 1000
    """Rarer categories than this many share the slot of the unseen."""


class TabularData(Splitting):
    """A CSV or Parquet table."""

    path: str
    """The file, relative to where the command runs, or `catalogue:NAME` for a known data set."""
    schema_path: str | None = Field(default=None, alias="schema")
    """A JSON Schema of one row; inferred from the data when absent."""
    target_column: str
    """The column to predict."""
    target_type: Literal["auto", "class", "number"] = "auto"
    """`auto`: text and small whole numbers are classes, other numbers are regressed."""
    ignore_columns: tuple[str, ...] = ()
    """Columns the model must not see: identifiers, leaks, free text."""
    categorical_columns: tuple[str, ...] = ()
    """Numeric-looking columns to be read as categories (postal codes, years as labels)."""
    missing_values: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
    """Cells that mean "no value"."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between cells of a CSV."""
    encoding: str = "utf-8"
    """The text encoding of a CSV."""
    preprocessing: TabularPreprocessing = TabularPreprocessing()
    """How columns become numbers."""


class ImageData(Splitting):
    """Class folders (`path/<class>/<image>`) or a CSV manifest of image paths and labels."""

    path: str
    """The folder or manifest, relative to where the command runs, or `catalogue:NAME`."""
    image_size: tuple[Annotated[int, Field(ge=4, le=2048)], Annotated[int, Field(ge=4, le=2048)]]
    """[height, width] in pixels of what the network sees."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How other shapes become `image_size`: fill and cut the middle, pad with grey, distort."""
    image_column: str = "image"
    """Manifest column with paths, relative to the manifest."""
    label_column: str = "label"
    """Manifest column with class names."""
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    """Larger images are refused before they are decoded."""
    augmentation: Augmentation = Augmentation()
    """How training images are varied."""


class Data(Section):
    """Exactly one of the three."""

    tabular: TabularData | None = None
    """A table, for model.type `tabular`."""
    image: ImageData | None = None
    """Images, for model.type `vision`."""
    image_text: ImageTextData | None = None
    """Pairs of image and text, for model.type `image_text`."""


class Architecture(Section):
    """The shape of the network; keys that a model does not have are refused for it."""

    input_dim: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Inputs after preprocessing; `auto` counts them, a number is checked against the data."""
    hidden_layers: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    """mlp: the width of each hidden layer."""
    normalization: Literal["none", "batch", "layer"] = "none"
    """mlp: what follows each linear layer."""
    embedding_dim: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """mlp: width of a category's embedding; `auto` is min(50, round(1.6 n^0.56))."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units switched off in training."""
    activation: Activation = "relu"
    """The non-linearity of an mlp; ResNet (ReLU) and EfficientNet (SiLU) keep their own."""
    stem: Literal["auto", "standard", "small"] = "auto"
    """vision: `small` keeps the resolution at the start; `auto` takes it for sides up to 32."""
    base_width: Annotated[int, Field(ge=8, le=256)] = 64
    """resnet: channels of the first stage (64 is the paper's)."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """vision: stochastic depth, the largest probability of skipping a block."""
    weights: str | None = None
    """What to start from. vision: a local torchvision or timm weight file (.safetensors, .pt,
    .pth). image_text: a CLIP checkpoint of OpenAI, open_clip or Hugging Face: a file, a folder, or
    a name on the Hugging Face Hub (hub:NAME)."""
    attention: Literal["auto", "explicit", "fused", "sliced", "chunked"] = "auto"
    """image_text: how attention is computed; all give the same numbers, `sliced` and `chunked` in
    less memory. `auto` chooses by length and free memory, and says so."""
    activation_checkpointing: bool = False
    """image_text: keep only the inputs of each block and compute the rest again in the backward
    pass: much less memory, about a third more time."""


class Model(Section):
    """Which network."""

    type: Literal["tabular", "vision", "image_text"]
    """The task: tables, images, or pairs of image and text."""
    name: ModelName
    """The network's name; `clip` is whatever the checkpoint in `weights` is."""
    architecture: Architecture = Architecture()
    """Its shape."""

    @model_validator(mode="after")
    def _name_fits_type(self) -> Self:
        family = {"mlp": "tabular", "clip": "image_text"}.get(self.name.partition("_")[0], "vision")
        if family != self.type:
            allowed = {"tabular": "mlp", "vision": "a resnet or an efficientnet"}
            raise ValueError(
                f"model {self.name!r} is not of type {self.type!r}; "
                f"expected {allowed.get(self.type, 'a clip')}"
            )
        if self.name == "clip" and self.architecture.weights is None:
            raise ValueError(
                "model 'clip' takes its shape from a checkpoint, so architecture.weights must name "
                "one; clip_tiny, clip_small and clip_vit_b32 have shapes of their own"
            )
        return self


class EarlyStopping(Section):
    """Stop when the watched number has not improved for `patience` epochs."""

    enabled: bool = True
    """Off: all epochs are run."""
    patience: Annotated[int, Field(ge=1)] = 20
    """Epochs to wait for something better."""
    monitor: str = "valid/loss"
    """`valid/` and a metric, for example valid/loss, valid/accuracy, valid/rmse."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change that counts as better."""


class Checkpoint(Section):
    """What is saved during a run; also where a killed run resumes."""

    enabled: bool = True
    """Off: a killed run starts again from nothing."""
    save_best: bool = True
    """Ship the epoch that was best by `early_stopping.monitor`; otherwise the last."""
    path: str | None = None
    """Folder for checkpoints; by default `checkpoints/` in the run folder."""
    every_steps: Annotated[int, Field(ge=1)] | None = None
    """Also save after this many optimiser steps; epochs save too, at most every 2 seconds."""


class Training(Section):
    """How the network learns."""

    epochs: Annotated[int, Field(ge=1)] = 50
    """Passes over the training samples."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 64
    """Samples per micro-batch; the effective batch is batch_size × accumulate. `auto` measures what
    the memory holds."""
    effective_batch: Annotated[int, Field(ge=1)] | None = None
    """Samples per optimiser step, instead of `accumulate`: the micro-batches follow."""
    memory_budget: Annotated[float, Field(gt=0)] | None = None
    """GiB that the training may take, of the GPU's memory or, on the CPU, of the process; by
    default what is free."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adamw"
    """How gradients become steps."""
    loss: Literal["auto", "cross_entropy", "focal", "mse", "mae", "huber"] = "auto"
    """`auto` is cross-entropy for classes and mean squared error for numbers."""
    early_stopping: EarlyStopping = EarlyStopping()
    """When to stop before the last epoch."""
    checkpoint: Checkpoint = Checkpoint()
    """What is saved on the way."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled decay (sgd: plain); never on biases, norms and embeddings."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """sgd and rmsprop."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """The learning rate after warm-up, per optimiser step, down to `final_learning_rate`."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs (fractions allowed) of linear warm-up."""
    final_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """Where the schedule ends."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """cross_entropy: share of the target spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of its share in the training rows."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Micro-batches per optimiser step; gradients equal those of the whole batch."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global gradient norm."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep, evaluate and ship an exponential moving average of the weights."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is fp32 on the CPU, bf16 on GPUs that have it (Apple: from M3), fp32 elsewhere."""
    log_every: Annotated[int, Field(ge=1)] = 50
    """Optimiser steps between progress updates."""

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate:g} is above "
                f"learning_rate {self.learning_rate:g}"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} must be less than epochs {self.epochs}"
            )
        if self.effective_batch is not None and self.accumulate != 1:
            raise ValueError(
                f"accumulate {self.accumulate} and effective_batch {self.effective_batch} say the "
                "same thing twice; give one of them"
            )
        if self.effective_batch is not None and self.batch_size != "auto":
            self._refuse_awkward_size(self.effective_batch, self.batch_size)
        return self

    def _refuse_awkward_size(self, effective: int, batch: int) -> None:
        """Micro-batches divide a step; a prime number of samples would run one by one."""
        if 2 * self.micro_batch <= min(batch, effective):
            rounded = -(-effective // batch) * batch
            raise ValueError(
                f"effective_batch {effective} falls into micro-batches of {self.micro_batch}, as "
                f"it has no larger divisor up to batch_size {batch}; {rounded} would do"
            )

    @property
    def micro_batch(self) -> int:
        """Samples per micro-batch, once `auto` has been measured: a divisor of the whole step."""
        assert self.batch_size != "auto", "the lifecycle replaces it before it is used"
        if self.effective_batch is None:
            return self.batch_size
        largest = min(self.batch_size, self.effective_batch)
        return next(size for size in range(largest, 0, -1) if self.effective_batch % size == 0)

    @property
    def step_samples(self) -> int:
        """Samples per optimiser step."""
        return self.effective_batch or self.micro_batch * self.accumulate


class Evaluation(Section):
    """What is measured once the network is trained."""

    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Resamples behind each interval; 0 leaves the intervals out."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Coverage of the intervals."""
    baselines: bool = True
    """Also score the majority class or mean, and scikit-learn's boosted trees."""
    probes: Annotated[int, Field(ge=16, le=64)] = 32
    """Test inputs stored in the bundle with their answers (fewer when the split is smaller)."""


class Tracking(Section):
    """The MLflow mirror of the run folder."""

    enabled: bool = True
    """Off: nothing leaves the run folder; `maquette register RUN` can do it later."""
    experiment: str = "maquette"
    """The MLflow experiment."""
    register_model: bool = Field(default=True, alias="register")
    """Register the bundle under the recipe's name when the run ends well."""


class Recipe(Section):
    """A whole recipe: data, model, training, and what happens around them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    """Names the run folder and the registered model: letters, digits, dot, dash, underscore."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The one source of randomness."""
    deterministic: bool = True
    """Refuse operations whose result changes from run to run."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; `auto` takes cuda, then mps, then cpu."""
    runs_dir: str = "runs"
    """Where run folders are made."""
    debug: bool = False
    """Check shapes and finiteness inside the loop too; slower."""
    data: Data
    """What to learn from."""
    model: Model
    """Which network learns."""
    training: Training = Training()
    """How it learns."""
    evaluation: Evaluation = Evaluation()
    """What is measured afterwards."""
    tracking: Tracking = Tracking()
    """Where the run is mirrored and registered."""
    contrastive: Contrastive | None = None
    """image_text: the loss that draws pairs together."""
    finetune: Finetune | None = None
    """image_text: which weights are trained, and how."""
    tune: Tune | None = None
    """What `maquette tune` searches."""

    @model_validator(mode="before")
    @classmethod
    def _pairs_are_watched_by_recall(cls, values: Any) -> Any:
        """Losses of contrastive batches depend on their size: recall is what is wanted."""
        if not (isinstance(values, dict) and isinstance(values.get("model"), dict)):
            return values
        if values["model"].get("type") != "image_text":
            return values
        training = values.get("training") or {}
        stopping = training.get("early_stopping") or {} if isinstance(training, dict) else None
        if not isinstance(stopping, dict) or "monitor" in stopping:
            return values
        watched = {**stopping, "monitor": "valid/mean_recall"}
        return {**values, "training": {**training, "early_stopping": watched}}

    @model_validator(mode="after")
    def _data_fits_model(self) -> Self:
        kinds = {"tabular": "tabular", "vision": "image", "image_text": "image_text"}
        wanted = kinds[self.model.type]
        if getattr(self.data, wanted) is None:
            raise ValueError(f"model.type is {self.model.type!r}, so data.{wanted} must be given")
        for other in sorted(set(kinds.values()) - {wanted}):
            if getattr(self.data, other) is not None:
                raise ValueError(
                    f"model.type is {self.model.type!r}, so data.{other} is not used; remove it"
                )
        if self.model.type != "image_text":
            for section in ("contrastive", "finetune"):
                if getattr(self, section) is not None:
                    raise ValueError(
                        f"model.type is {self.model.type!r}, which has no section {section}; "
                        "remove it"
                    )
        return self
