"""One update of the weights, in plain sight: forward, backward, clip, step.

A step may take its utterances in several batches (train.accumulate). Each loss term is a sum over
tokens or utterances, divided by the number of them in the whole step: the gradient is that of one
big batch, however ragged the parts are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from paraformer_asr.config import Config
from paraformer_asr.data.batches import Batch
from paraformer_asr.losses import Losses
from paraformer_asr.masks import length_mask
from paraformer_asr.models import Outputs, Paraformer
from paraformer_asr.optim import Average, build_optimizer, learning_rate, set_learning_rate
from paraformer_asr.watch import NotFinite, check_step

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step tells: numbers for the log."""

    loss: float
    terms: Mapping[str, float]
    """Each term of the loss, divided by its count and not yet weighted."""
    grad_norm: float
    """Before clipping."""
    accuracy: float
    """Part of all tokens that the decoder gets right from the acoustic vectors alone."""
    utterances: int


class Trainer:
    """Model, losses, optimiser, gradient scaler and average of a run."""

    def __init__(self, model: Paraformer, config: Config, device: torch.device) -> None:
        self.model = model
        self.config = config
        self.device = device
        self.losses = Losses(config.loss)
        self.end_tokens = int(config.model.end_token)
        self.optimizer = build_optimizer(model, config.optim)
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=config.train.precision == "fp16", growth_interval=2000
        )
        decay = config.optim.average
        self.average = Average(model, decay) if decay is not None else None

    @property
    def shipped(self) -> Paraformer:
        """The model that is validated and saved to use: the average where there is one."""
        if self.average is None:
            return self.model
        averaged = self.average.copy
        assert isinstance(averaged, Paraformer)
        return averaged

    def step(self, batches: Sequence[Batch], *, step: int, progress: float) -> StepResult:
        """Update the weights once.

        Args:
            batches: the parts of the step, on any device.
            step: steps done before this one.
            progress: part of the run that is done, 0 to 1, for the learning rate.
        Raises:
            NotFinite: the loss or the gradient is NaN or infinite; nothing was updated.
        """
        self.model.train()
        batches = [batch.to(self.device) for batch in batches]
        counts = self.losses.counts(torch.cat([b.token_lens + self.end_tokens for b in batches]))
        lr = learning_rate(self.config.optim, step, progress)
        set_learning_rate(self.optimizer, lr)

        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        right = torch.zeros((), device=self.device)
        for batch in batches:
            outputs = self.forward(batch)
            parts = self.losses.sums(outputs, batch.tokens, batch.token_lens)
            loss = self.losses.total(parts, counts)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for name, part in parts.items():
                sums[name] = sums.get(name, torch.zeros_like(part)) + part.detach()
            right += num_right(outputs)

        self.scaler.unscale_(self.optimizer)  # clip true gradients
        clip = self.config.optim.grad_clip
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if clip is not None:
            norm = clip_grad_norm_(parameters, clip)
        else:
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        terms = {name: value / max(counts[name], 1) for name, value in sums.items()}
        numbers = [self.losses.total(sums, counts), norm, right, *terms.values()]
        loss_value, norm_value, right_value, *term_values = torch.stack(
            [number.float() for number in numbers]
        ).tolist()  # the only wait for the device
        self._check(batches, counts, step, loss_value, norm_value, lr)

        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return StepResult(
            loss=loss_value,
            terms=dict(zip(terms, term_values, strict=True)),
            grad_norm=norm_value,
            accuracy=right_value / max(counts["ce"], 1),
            utterances=sum(len(batch) for batch in batches),
        )

    def forward(self, batch: Batch) -> Outputs:
        """Run the model on a batch in the run's precision."""
        dtype = AUTOCAST.get(self.config.train.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            outputs: Outputs = self.model(
                batch.feats, batch.feat_lens, batch.tokens, batch.token_lens
            )
        return outputs

    def _check(
        self,
        batches: Sequence[Batch],
        counts: Mapping[str, int],
        step: int,
        loss: float,
        grad_norm: float,
        lr: float,
    ) -> None:
        """Stop at values that are not finite; in fp16 an infinite gradient lowers the scale."""
        precision = self.config.train.precision
        if precision == "fp16":
            if self.scaler.get_scale() < 1:
                raise NotFinite(
                    f"step {step + 1}: the fp16 loss scale fell below 1, so almost every step "
                    "overflows; use train.precision=bf16 or fp32."
                )
            grad_norm = 0.0

        def repeat() -> Tensor:
            parts = [
                self.losses.total(
                    self.losses.sums(self.forward(batch), batch.tokens, batch.token_lens), counts
                )
                for batch in batches
            ]
            return torch.stack(parts).sum()

        check_step(
            self.model,
            step=step,
            loss=loss,
            grad_norm=grad_norm,
            names=[name for batch in batches for name in batch.names],
            repeat=repeat,
            lr=lr,
            precision=precision,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything but the configuration and the place in the data."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaging": self.average.state_dict() if self.average else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["averaging"])


def num_right(outputs: Outputs) -> Tensor:
    """Tokens of a batch that the first pass, which saw no true tokens, gets right."""
    logits = outputs.logits if outputs.first_logits is None else outputs.first_logits
    mask = length_mask(outputs.token_lens, outputs.tokens.shape[1])
    return ((logits.detach().argmax(dim=2) == outputs.tokens) & mask).sum()
