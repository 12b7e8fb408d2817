"""The numbers of a validation."""

from __future__ import annotations

import pytest
import torch
from small import small_config

from paraformer_asr.data.batches import Batches
from paraformer_asr.data.build import build_datasets
from paraformer_asr.losses import Losses
from paraformer_asr.models import build_model
from paraformer_asr.validate import validate


def numbers_of(**data):
    torch.manual_seed(0)
    config = small_config(data=data)
    model = build_model(config)
    dataset = build_datasets(config)["valid"]
    model.frontend.fit(dataset.load(i).frames for i in range(len(dataset)))
    batches = Batches(dataset, model.frontend, model.tokenizer, config, train=False)
    model.train()
    numbers = validate(model, batches, Losses(config.loss))
    assert model.training
    return numbers


def test_the_numbers_do_not_depend_on_the_batches():
    whole, single = numbers_of(batch_frames=10**6), numbers_of(max_batch=1)
    assert set(whole) == {"valid_loss", "valid_cer", "valid_count_error"}
    for name, value in whole.items():
        assert single[name] == pytest.approx(value, rel=1e-5)


def test_an_untrained_model_is_wrong():
    numbers = numbers_of()
    assert numbers["valid_cer"] > 0.5
    assert numbers["valid_count_error"] > 1
