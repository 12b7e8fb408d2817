"""The image-text task: ties pairs, tokenizer, CLIP and loss to the protocol of `tasks/base.py`.

Letters: B batch, E' width of prepared features, n samples, N classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.data.images import encode_png
from maquette.device import choose_device
from maquette.device.memory import memory_budget, used_memory
from maquette.device.selftest import self_test
from maquette.errors import UsageError
from maquette.evaluation.retrieval import RetrievalMetrics
from maquette.nn.attention_choice import choose_attention
from maquette.recipe import Recipe
from maquette.recipe.splitting import SplitRule
from maquette.tasks.augment import Augmenter
from maquette.tasks.base import Batch, Json, MetricAccumulator, Predictions, Splits
from maquette.tasks.image_text import losses
from maquette.tasks.image_text.architectures import ClipConfig
from maquette.tasks.image_text.captions import check_lengths
from maquette.tasks.image_text.checkpoints import ClipCheckpoint, load_into, read_clip
from maquette.tasks.image_text.classes import class_features
from maquette.tasks.image_text.clip import CLIP
from maquette.tasks.image_text.data import ImageTextSamples, load_labelled_pairs, load_pairs
from maquette.tasks.image_text.finetune import (
    freeze_batch_norm,
    layer_rates,
    merge,
    prepare_model,
    wise_ft,
)
from maquette.tasks.image_text.fitting import fit_pairs
from maquette.tasks.image_text.model import PairModel
from maquette.tasks.image_text.prediction_file import predict_pairs
from maquette.tasks.image_text.preprocess import ImageTextPreprocessor
from maquette.tasks.image_text.profile import pair_profile
from maquette.tasks.image_text.resolution import SizeSchedule
from maquette.tasks.image_text.setup import setup_of
from maquette.tasks.image_text.similarity import dot
from maquette.tasks.image_text.source import PairSource
from maquette.tasks.image_text.text_augment import TextAugmenter


class ImageTextTask:
    """Images and texts in one space, learned with a contrastive loss."""

    def __init__(self, recipe: Recipe) -> None:
        """Take the recipe.

        Raises:
            UsageError: its domain, loss or method does not exist, or settings do not go together.
        """
        self.recipe = recipe
        self.setup = setup_of(recipe)
        self.parameters: dict[str, float] = {}
        if self.setup.loss in losses.LOSSES:
            self.parameters = losses.check_parameters(self.setup.loss, self.setup.loss_parameters)
        self.notes: list[str] = []
        """What was found worth knowing after the data was read: captions that are cut."""
        self._captions: list[tuple[str, tuple[str, ...]]] = []
        self._teacher: CLIP | None = None

    def load(self) -> Splits[ImageTextSamples]:
        """Read, check and split the pairs.

        Raises:
            UsageError: there is no such loss. A bundle is opened without it: predicting needs none.
            DataError: the pairs cannot be used.
        """
        losses.check_parameters(self.setup.loss, self.setup.loss_parameters)
        splits = load_pairs(self.setup.data, seed=self.recipe.seed, prompts=self.setup.prompts)
        for split in (splits.train, splits.valid, splits.test):
            self._captions += zip(split.places, split.texts, strict=True)
        groups = splits.train.text_groups
        warning = losses.duplicates_warning(
            self.setup.loss,
            num_duplicates=len(groups) - len(np.unique(groups)),
            num_texts=len(groups),
        )
        warnings = [*splits.report.warnings, *([warning] if warning else [])]
        return replace(splits, report=replace(splits.report, warnings=warnings))

    def load_labelled(self, path: str, preprocessor: ImageTextPreprocessor) -> ImageTextSamples:
        """Read another manifest, folder or set of shards in the same form, as one split."""
        data = self.setup.data.model_copy(update={"path": path, "split": SplitRule()})
        return load_labelled_pairs(data, prompts=preprocessor.prompts, classes=preprocessor.classes)

    def fit_preprocessor(self, train: ImageTextSamples) -> ImageTextPreprocessor:
        """Fit the tokenizer, the colours and the network's shape, or take a checkpoint's.

        Raises:
            DataError: captions that are too long, where the recipe refuses them.
            UsageError: an image size that the patches do not divide; another checkpoint.
        """
        preprocessor = fit_pairs(self.recipe, self.setup, train, self._checkpoint())
        self.notes = list(
            check_lengths(
                [place for place, _ in self._captions],
                [texts for _, texts in self._captions],
                preprocessor.tokenizer,
                long_captions=self.setup.data.long_captions,
            )
        )
        self.notes += self._schedule(training=True).warnings()
        return preprocessor

    def preprocessor_from_json(self, state: Json) -> ImageTextPreprocessor:
        """Restore a preprocessor saved by `to_json`."""
        return ImageTextPreprocessor.from_json(state)

    def prepare(
        self, samples: ImageTextSamples, preprocessor: ImageTextPreprocessor, *, augment: bool
    ) -> PairSource:
        """Turn a split into batches; only training images vary in size and otherwise."""
        return self.prepare_at(samples, preprocessor, augment=augment, size=None)

    def prepare_at(
        self,
        samples: ImageTextSamples,
        preprocessor: ImageTextPreprocessor,
        *,
        augment: bool = False,
        size: int | None = None,
    ) -> PairSource:
        """The same with images of another side than `image_size`."""
        return PairSource(
            samples,
            preprocessor,
            sizes=self._schedule(training=augment, size=size),
            seed=self.recipe.seed,
            augmenter=self._augmenter(preprocessor) if augment else None,
            text_augmenter=self._text_augmenter() if augment else None,
            is_training=augment,
            shuffle_buffer=self.setup.data.shuffle_buffer,
        )

    def _schedule(self, *, training: bool, size: int | None = None) -> SizeSchedule:
        resolution = self.setup.data.resolution
        return SizeSchedule(
            image_size=size or self.setup.data.image_size,
            progressive=resolution.progressive if training else (),
            multi_scale=resolution.multi_scale if training else (),
            epochs=self.recipe.training.epochs,
            seed=self.recipe.seed,
        )

    def build_model(self, preprocessor: ImageTextPreprocessor) -> PairModel:
        """Build the network with random weights."""
        architecture = self.recipe.model.architecture
        clip = CLIP(
            ClipConfig.from_json(preprocessor.architecture),
            attention="fused" if architecture.attention == "auto" else architecture.attention,
            activation_checkpointing=architecture.activation_checkpointing,
        )
        return PairModel(
            clip,
            similarity=preprocessor.similarity,
            has_bias=losses.has_bias(self.setup.loss),
            num_classes=len(preprocessor.classes or ()),
        )

    def load_initial_weights(self, model: PairModel) -> str | None:
        """Load the checkpoint, if any, and choose what is trained; return lines on both.

        Raises:
            UsageError: there is no such checkpoint, or it belongs to another network.
        """
        lines = []
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            keys = load_into(model.clip, checkpoint, new_vocabulary=self._has_new_words())
            lines += [*checkpoint.report, str(keys)]
        self._start_temperature(model, from_checkpoint=checkpoint is not None)
        has_new_words = checkpoint is not None and self._has_new_words()
        finetune = prepare_model(model.clip, self.setup.finetune, new_vocabulary=has_new_words)
        lines += finetune.lines + self._settle_batch_norm(model.clip, checkpoint is not None)
        if not self.setup.contrastive.learn_temperature:
            model.clip.logit_scale.requires_grad = False
        lines.append(self._choose_attention(model.clip))
        return "\n".join(lines)

    def represent(self, model: PairModel, batch: Batch) -> tuple[Tensor, ...]:
        """Return the prepared image and text features, and the teacher's where there is one."""
        features = model(*batch.inputs)
        representations = (features[:, 0], features[:, 1])
        if self.setup.loss != "distillation":
            return representations
        with torch.no_grad():
            images, texts = self._teach(batch)
        return *representations, images.float(), texts.float()

    def coupled_loss(
        self, model: PairModel, representations: tuple[Tensor, ...], targets: Tensor
    ) -> tuple[Tensor, float]:
        """Return the loss summed over the batch, and B."""
        loss = losses.LOSSES[self.setup.loss](
            representations[0],
            representations[1],
            model.clip.logit_scale,
            **self._loss_arguments(model, representations, targets),
        )
        count = len(targets)
        return loss * count, float(count)

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, float]:
        """Return the loss of the batch, summed, and its size."""
        return self.coupled_loss(model, self.represent(model, batch), batch.targets)

    def learning_rates(self, model: PairModel) -> Mapping[str, float]:
        """Return the layer-wise factors of the learning rate."""
        decay = self.setup.finetune.layer_decay
        if decay == 1:
            return {}
        return {f"clip.{name}": rate for name, rate in layer_rates(model.clip, decay).items()}

    def after_update(self, model: PairModel) -> None:
        """Keep the temperature between 0.01 and 1 (Radford et al. 2021, section 2.5)."""
        with torch.no_grad():
            model.clip.logit_scale.clamp_(*self._range(model))

    def readings(self, model: PairModel, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the temperature, and the parts of the loss in batches of a training step."""
        scale = model.clip.logit_scale.detach().float().cpu()
        found = {"temperature": float((-scale).exp())}
        if self.setup.loss == "distillation":  # the teacher's features are not among the outputs
            return found
        size = min(self.recipe.training.step_samples, len(outputs))
        sums: dict[str, float] = {}
        for start in range(0, len(outputs), size):
            features, groups = outputs[start : start + size], targets[start : start + size]
            arguments = self._loss_arguments(model, (features[:, 0], features[:, 1]), groups)
            if arguments["logit_bias"] is not None:
                arguments["logit_bias"] = arguments["logit_bias"].detach().cpu()
            parts = losses.loss_parts(
                self.setup.loss, features[:, 0], features[:, 1], scale, **arguments
            )
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(features)
        return found | {f"loss_{name}": value / len(outputs) for name, value in sums.items()}

    def finish(
        self,
        model: PairModel,
        preprocessor: ImageTextPreprocessor,
        *,
        evaluate: Callable[[], Mapping[str, float]],
    ) -> Json:
        """Merge the low-rank additions, average with the old weights, set the class features."""
        merge(model.clip)
        facts: Json = {}
        if self.setup.finetune.wise_ft:
            facts["wise_ft"] = self._average(model, preprocessor, evaluate)
        if preprocessor.classes is not None:
            with torch.no_grad():
                assert model.class_features is not None, "built with the classes"
                model.class_features.copy_(class_features(model, preprocessor))
        return facts

    def metrics(self, preprocessor: ImageTextPreprocessor) -> MetricAccumulator:
        """Return an empty accumulator."""
        del preprocessor
        return RetrievalMetrics()

    def decode(self, outputs: Tensor, preprocessor: ImageTextPreprocessor) -> Predictions:
        """Turn (B, 2, E') features into similarities, or (B, N) logits into classes."""
        outputs = outputs.detach().cpu().float()
        if outputs.ndim == 3:
            return Predictions((outputs[:, 0] * outputs[:, 1]).sum(dim=1).tolist())
        classes = preprocessor.classes or ()
        probabilities = outputs.softmax(dim=1)
        winners = probabilities.argmax(dim=1).tolist()
        return Predictions([classes[n] for n in winners], probabilities.numpy(), classes)

    def raw_inputs(self, samples: ImageTextSamples, rows: Sequence[int]) -> list[Any]:
        """Return the images at these positions as PNG files, with their first texts."""
        pixels = samples.store.read(samples.images[list(rows)], size=samples.store.size)
        images = [encode_png(image) for image in pixels]
        if samples.is_prompted:
            return list(images)
        return [
            {"image": image, "text": samples.texts[row][0]}
            for row, image in zip(rows, images, strict=True)
        ]

    def baseline_features(self, samples: ImageTextSamples) -> NDArray[np.float32]:
        """(n, 3) mean colours of the images: what chance plus colour can do."""
        pixels = samples.store.read(samples.images, size=samples.store.size)
        return np.asarray(pixels.mean(axis=(1, 2)) / 255, dtype=np.float32)

    def target_values(self, samples: ImageTextSamples) -> NDArray[Any]:
        """(n,) class names where there are any, else the texts."""
        if samples.labels is not None:
            return samples.labels
        return np.array([texts[0] for texts in samples.texts], dtype=object)

    def profile(self, samples: ImageTextSamples) -> Json:
        """Describe the images and the captions."""
        return pair_profile(samples)

    def predict_file(
        self,
        predict: Callable[[Sequence[Any]], Predictions],
        preprocessor: ImageTextPreprocessor,
        *,
        source: Path,
        output: Path,
    ) -> list[str]:
        """Score a manifest of pairs, or classify a folder of images; return lines that say so."""
        return predict_pairs(
            predict, preprocessor, data=self.setup.data, source=source, output=output
        )

    def example(self, preprocessor: ImageTextPreprocessor) -> Any:
        """Return a colour gradient with a text that describes it."""
        side = preprocessor.image_size
        down, right = np.meshgrid(
            np.linspace(0, 255, side), np.linspace(0, 255, side), indexing="ij"
        )
        image = encode_png(np.stack([down, right, 255 - down], axis=2).astype(np.uint8))
        if preprocessor.classes is not None:
            return image
        return {"image": image, "text": "a smooth gradient from blue to yellow"}

    def _checkpoint(self) -> ClipCheckpoint | None:
        """Read the checkpoint that the recipe starts from; it is read again when asked again."""
        weights = self.recipe.model.architecture.weights
        return None if weights is None else read_clip(weights)

    def _has_new_words(self) -> bool:
        return self.setup.data.tokenizer != "auto"

    def _settle_batch_norm(self, clip: CLIP, is_loaded: bool) -> tuple[str, ...]:
        """Pieces of a batch do not have its statistics: keep a checkpoint's, or refuse pieces."""
        training = self.recipe.training
        is_cut = training.batch_size == "auto" or training.step_samples > training.micro_batch
        if clip.config.vision != "resnet" or not is_cut:
            return ()
        if not is_loaded:
            raise UsageError(
                "A ResNet tower with random weights learns the statistics of its batches, which "
                "pieces of a batch do not have: use a batch_size of the whole step without "
                "accumulate or effective_batch, a ViT tower, or weights."
            )
        return (f"the statistics of {freeze_batch_norm(clip)} batch norms stay the checkpoint's",)

    def _range(self, model: PairModel) -> tuple[float, float]:
        return losses.logit_scale_range(
            self.setup.contrastive.similarity, embed_dim=model.clip.config.embed_dim
        )

    def _start_temperature(self, model: PairModel, *, from_checkpoint: bool) -> None:
        temperature = self.setup.contrastive.temperature
        start = losses.start_of(
            self.setup.loss,
            similarity=self.setup.contrastive.similarity,
            embed_dim=model.clip.config.embed_dim,
            parameters=self.parameters,
        )
        with torch.no_grad():
            if model.logit_bias is not None and start.logit_bias is not None:
                model.logit_bias.fill_(start.logit_bias)
            if temperature != "auto":
                model.clip.logit_scale.copy_(-torch.tensor(temperature).log())
            elif not from_checkpoint:
                model.clip.logit_scale.fill_(start.logit_scale)

    def _choose_attention(self, clip: CLIP) -> str:
        """Settle `attention: auto` for this machine; return a line that says what and why."""
        architecture, training = self.recipe.model.architecture, self.recipe.training
        if architecture.attention != "auto":
            return f"attention: {architecture.attention}, as the recipe says"
        config = clip.config
        largest = max([self.setup.data.image_size, *self.setup.data.resolution.multi_scale])
        tokens = (largest // config.stride) ** 2 + 1
        tested = self_test(choose_device(self.recipe.device, training.precision))
        device = tested.device
        choice = choose_attention(
            batch=8 if training.batch_size == "auto" else training.micro_batch,
            heads=config.vision_heads,
            queries=tokens,
            keys=tokens,
            head_dim=config.vision_width // config.vision_heads,
            dtype=torch.float32 if device.precision == "fp32" else torch.bfloat16,
            device_type=device.name,
            free_bytes=max(memory_budget(device) - used_memory(device), 0),
            needs_grad=True,
            trusted=tested.attention,
        )
        clip.attention = choice.impl
        return f"attention: {choice.impl}: {choice.reason}"

    def _loss_arguments(
        self, model: PairModel, representations: tuple[Tensor, ...], targets: Tensor
    ) -> dict[str, Any]:
        """The features are prepared already, so their similarity is the dot product."""
        arguments: dict[str, Any] = {
            "similarity": dot,
            "logit_bias": model.logit_bias,
            "groups": targets,
            **self.parameters,
        }
        if self.setup.loss == "distillation" and len(representations) == 4:
            arguments["teacher_image_features"] = representations[2]
            arguments["teacher_text_features"] = representations[3]
        return arguments

    def _teach(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the teacher's features of a batch; it is read when first asked."""
        if self._teacher is None:
            source = self.setup.contrastive.teacher
            assert source is not None, "setup_of requires it for this loss"
            checkpoint = read_clip(source)
            self._teacher = CLIP(checkpoint.config)
            load_into(self._teacher, checkpoint)
            self._teacher.eval().requires_grad_(requires_grad=False)
        teacher = self._teacher.to(batch.inputs[0].device)
        images, texts = teacher(*batch.inputs)
        return images, texts

    def _average(
        self,
        model: PairModel,
        preprocessor: ImageTextPreprocessor,
        evaluate: Callable[[], Mapping[str, float]],
    ) -> Json:
        """WiSE-FT: keep the average of old and new weights that validates best."""
        old = self.build_model(preprocessor)
        checkpoint = self._checkpoint()
        assert checkpoint is not None, "setup_of requires it for wise_ft"
        load_into(old.clip, checkpoint, new_vocabulary=self._has_new_words())
        tuned = {name: value.clone() for name, value in model.clip.state_dict().items()}
        monitor = self.recipe.training.early_stopping.monitor.removeprefix("valid/")

        def score(state: Mapping[str, Tensor]) -> float:
            model.clip.load_state_dict(state)
            value = evaluate()[monitor]
            return -value if monitor == "loss" else value

        curve = wise_ft(old.clip.state_dict(), tuned, score, self.setup.finetune.wise_ft_steps)
        model.clip.load_state_dict(curve.best_state)
        return {
            "monitor": monitor,
            "alphas": list(curve.alphas),
            "scores": list(curve.scores),
            "best_alpha": curve.best_alpha,
        }

    def _augmenter(self, preprocessor: ImageTextPreprocessor) -> Augmenter | None:
        """The recipe's changes, or the domain's; None when there are none."""
        wanted = self.setup.augmentation.model_dump(exclude={"normalize"})
        augmenter = Augmenter(seed=self.recipe.seed, fill=preprocessor.mean, **wanted)
        nothing = Augmenter(seed=self.recipe.seed, fill=preprocessor.mean)
        return None if augmenter == nothing else augmenter

    def _text_augmenter(self) -> TextAugmenter:
        changes = self.setup.text_augmentation.model_dump()
        return TextAugmenter(seed=self.recipe.seed, **changes)
