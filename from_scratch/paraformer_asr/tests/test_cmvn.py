"""Mean and variance of features: streamed sums, and FunASR's file of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paraformer_asr.cmvn import CmvnSums, read_kaldi_cmvn
from paraformer_asr.errors import AsrError

GOOD = """<Nnet>
<Splice> 3 3
[ 0 ]
<AddShift> 3 3
<LearnRateCoef> 0 [ -8.25 -9.5 1e-1 ]
<Rescale> 3 3
<LearnRateCoef> 0 [ 0.125 0.25 2 ]
</Nnet>
"""


def test_streamed_sums_are_mean_and_standard_deviation_of_all_frames():
    torch.manual_seed(0)
    utterances = [100 + 3 * torch.randn(size, 4) for size in (1, 50, 7)]
    sums = CmvnSums(4)
    for feats in utterances:
        sums.accumulate(feats)
    together = torch.cat(utterances).double()
    torch.testing.assert_close(sums.mean(), together.mean(dim=0), atol=1e-9, rtol=0)
    torch.testing.assert_close(sums.std(), together.std(dim=0, correction=0), atol=1e-9, rtol=0)
    assert sums.count == 58


def test_a_feature_that_never_moves_gets_a_hundredth_of_the_typical_deviation():
    sums = CmvnSums(2)
    sums.accumulate(torch.tensor([[5.0, -1.0], [5.0, 1.0]]))
    assert sums.std().tolist() == pytest.approx([0.01 * 0.5**0.5, 1.0])


def test_constant_features_get_the_least_deviation():
    sums = CmvnSums(2)
    sums.accumulate(torch.full((3, 2), -15.9))
    assert sums.std().tolist() == pytest.approx([1e-5, 1e-5])


def test_an_utterance_without_frames_adds_nothing():
    sums = CmvnSums(2)
    sums.accumulate(torch.tensor([[1.0, 2.0]]))
    sums.accumulate(torch.zeros(0, 2))
    assert sums.mean().tolist() == [1, 2]


def test_no_frames_at_all_is_an_error():
    for ask in (CmvnSums(2).mean, CmvnSums(2).std):
        with pytest.raises(AsrError, match="there is no frame to take mean and variance of"):
            ask()


def test_sums_refuse_nan_and_another_width():
    sums = CmvnSums(2)
    with pytest.raises(AsrError, match="feats has 1 values that are NaN or infinite"):
        sums.accumulate(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(AsrError, match=r"feats is \[4, 3\]: axis 1 should be 2"):
        sums.accumulate(torch.zeros(4, 3))
    assert sums.count == 0


def test_the_file_of_a_funasr_model_gives_shift_and_scale(tmp_path: Path):
    path = tmp_path / "am.mvn"
    path.write_text(GOOD)
    shift, scale = read_kaldi_cmvn(str(path))
    assert shift.dtype == scale.dtype == torch.float32
    torch.testing.assert_close(shift, torch.tensor([-8.25, -9.5, 0.1]))
    torch.testing.assert_close(scale, torch.tensor([0.125, 0.25, 2.0]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<AddShift>", "<Shift>", "has no <AddShift>; expected a kaldi network with <AddShift>"),
        ("<Rescale>", "", "has no <Rescale>; expected a kaldi network"),
        ("2 ]\n</Nnet>\n", "2", "<Rescale> is cut off; get the file again"),
        ("<Rescale> 3 3\n<LearnRateCoef> 0 [ 0.125 0.25 2 ]\n</Nnet>\n", "<Rescale>", "is cut off"),
        ("-8.25 ", "", "<AddShift> announces 3 values and lists 2; get the file again"),
        ("-9.5", "minus", "<AddShift> value 1 is 'minus'; expected a finite number"),
        ("-9.5", "nan", "<AddShift> value 1 is 'nan'; expected a finite number"),
        ("0.25", "inf", "<Rescale> value 1 is 'inf'; expected a finite number"),
        ("0.25", "0", "<Rescale> value 1 is 0; expected above 0"),
        (
            "<Rescale> 3 3\n<LearnRateCoef> 0 [ 0.125",
            "<Rescale> 2 2\n<LearnRateCoef> 0 [",
            "<AddShift> has 3 values and <Rescale> 2; expected the same number",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str):
    assert old in GOOD
    path = tmp_path / "am.mvn"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(AsrError, match=rf"am\.mvn: .*{message}"):
        read_kaldi_cmvn(path)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path):
    with pytest.raises(AsrError, match=r"am\.mvn: there is no such file"):
        read_kaldi_cmvn(tmp_path / "am.mvn")
    (tmp_path / "am.mvn").write_bytes(b"\xff\xfe\0B")
    with pytest.raises(AsrError, match=r"am\.mvn: is no text; expected a kaldi network in text"):
        read_kaldi_cmvn(tmp_path / "am.mvn")
    with pytest.raises(AsrError, match=r"cannot be read \(Is a directory\)"):
        read_kaldi_cmvn(tmp_path)
