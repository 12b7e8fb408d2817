"""Recognition of files with a real, untrained model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import features, loaded, png_size, recording, silence, tiny_model, tone

from paraformer_asr.audio import write_wav
from paraformer_asr.decode import decode_batch
from paraformer_asr.errors import AsrError
from paraformer_asr.infer import (
    Transcript,
    as_json,
    infer_paths,
    look,
    recognize,
    timestamp_lines,
    transcribe,
)
from paraformer_asr.inputs import read_sound
from paraformer_asr.models import Paraformer


@pytest.fixture
def model() -> Paraformer:
    return tiny_model()


def assert_same(left: Transcript, right: Transcript) -> None:
    assert (left.text, left.tokens) == (right.text, right.tokens)
    np.testing.assert_allclose(left.times, right.times, atol=1e-4)
    np.testing.assert_allclose(left.confidence, right.confidence, atol=1e-5)


def test_a_recording_is_transcribed_as_decode_does_it(model: Paraformer, tmp_path: Path):
    path = recording(tmp_path / "a.wav", 0.8)
    found = transcribe(model, str(path))
    model.eval()
    feats = model.frontend(read_sound(model, path).frames)
    (expected,) = decode_batch(model, feats[None], torch.tensor([len(feats)]))
    assert found.text == expected.text != ""
    assert found.tokens == expected.tokens
    assert len(found.tokens) == len(found.times) == len(found.confidence)
    assert all(0 <= start <= end <= 0.8 for start, end in found.times)
    assert all(0 < confidence <= 1 for confidence in found.confidence)


def test_every_layer_is_left_in_the_mode_it_was_in_and_dropout_is_not_used(
    model: Paraformer, tmp_path: Path
):
    path = features(tmp_path / "a.npy")
    model.train()
    model.predictor.eval()  # frozen, as in a second stage of training
    before = [layer.training for layer in model.modules()]
    first, second = transcribe(model, path), transcribe(model, path)
    assert [layer.training for layer in model.modules()] == before
    assert first == second
    assert_same(first, transcribe(model.eval(), path))
    assert not any(layer.training for layer in model.modules())


def test_the_mode_is_restored_after_an_error(model: Paraformer, tmp_path: Path):
    model.train()
    model.decoder.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError("x")))
    with pytest.raises(KeyError):
        transcribe(model, features(tmp_path / "a.npy"))
    assert model.training
    assert model.encoder.training


def test_a_model_can_be_trained_after_it_was_used(model: Paraformer, tmp_path: Path):
    transcribe(model, recording(tmp_path / "a.wav"))
    look(model, read_sound(model, tmp_path / "a.wav").frames, title="a")
    model.train()
    feats = torch.randn(1, 40, model.frontend.dim)
    tokens, lens = torch.tensor([[3, 4]]), torch.tensor([2])
    outputs = model(feats, torch.tensor([40]), tokens, lens)
    (outputs.logits.sum() + outputs.total.sum()).backward()
    assert model.predictor.output.weight.grad is not None


def test_batches_by_length_change_nothing(model: Paraformer, tmp_path: Path):
    lengths = [60, 8, 140, 33, 60, 21]
    sounds = [
        read_sound(model, features(tmp_path / f"{i}.npy", size, seed=i))
        for i, size in enumerate(lengths)
    ]
    alone = [recognize(model, [sound])[0] for sound in sounds]
    for batch_frames in (None, 1, 90):
        for left, right in zip(
            alone, recognize(model, sounds, batch_frames=batch_frames), strict=True
        ):
            assert_same(left, right)


def test_silence_gives_an_empty_transcript(model: Paraformer, tmp_path: Path):
    silence(model)
    found = transcribe(model, recording(tmp_path / "a.wav"))
    assert found == Transcript(text="", tokens=[], times=[], confidence=[])
    assert timestamp_lines(found) == "    (no token)"


def test_a_view_for_the_picture_fits_together(model: Paraformer, tmp_path: Path):
    sound = read_sound(model, features(tmp_path / "a.npy", 61))
    view = look(model, sound.frames, title="a", reference="abc")
    found = transcribe(model, tmp_path / "a.npy")
    assert (view.text, view.tokens, view.reference) == (found.text, found.tokens, "abc")
    assert view.frames.shape == (61, 20)
    assert view.alphas.shape == (31,)
    assert view.step_seconds == pytest.approx(0.02)
    assert view.times == found.times
    assert view.attention is not None
    assert view.attention.shape == (len(view.tokens), 31)
    np.testing.assert_allclose(view.attention.sum(axis=1), 1, atol=1e-5)


def test_a_view_leaves_out_special_tokens_with_their_attention(model: Paraformer, tmp_path: Path):
    torch.nn.init.zeros_(model.decoder.output.weight)
    torch.nn.init.zeros_(model.decoder.output.bias)
    with torch.no_grad():
        model.decoder.output.bias[model.tokenizer.end] = 1  # it hears nothing but ends
    view = look(model, read_sound(model, features(tmp_path / "a.npy")).frames, title="a")
    assert view.tokens == []
    assert view.attention is not None
    assert view.attention.shape[0] == 0
    assert view.alphas.sum() > 1


def test_a_view_of_silence_has_no_tokens(model: Paraformer, tmp_path: Path):
    silence(model)
    view = look(model, read_sound(model, features(tmp_path / "a.npy")).frames, title="a")
    assert view.text == ""
    assert view.times == []


def test_the_time_axis_of_a_subsampling_encoder_is_in_seconds(tmp_path: Path):
    model = tiny_model(encoder="conformer", subsampling="conv2d")
    view = look(model, read_sound(model, features(tmp_path / "a.npy", 200)).frames, title="a")
    assert view.step_seconds == pytest.approx(0.08)
    assert 1.8 < len(view.alphas) * view.step_seconds <= 2.0


def test_a_json_file_for_each_input_holds_the_transcript(model: Paraformer, tmp_path: Path):
    recording(tmp_path / "in" / "a.wav", 0.5)
    features(tmp_path / "in" / "deep" / "a.npy", 70)
    said: list[str] = []
    report = infer_paths(loaded(model), [tmp_path / "in"], tmp_path / "out", say=said.append)

    assert (report.errors, report.warnings, report.exit_code) == ((), (), 0)
    assert report.written == (
        tmp_path / "out" / "a.wav.json",
        tmp_path / "out" / "deep" / "a.npy.json",
    )
    expected = transcribe(model, tmp_path / "in" / "a.wav")
    values = json.loads(report.written[0].read_text(encoding="utf-8"))
    assert values["input"] == str(tmp_path / "in" / "a.wav")
    assert (values["text"], values["tokens"]) == (expected.text, expected.tokens)
    np.testing.assert_allclose(values["times"], expected.times, atol=1e-3)
    np.testing.assert_allclose(values["confidence"], expected.confidence, atol=1e-4)
    assert (values["duration"], values["notes"]) == (0.5, [])
    assert said[0] == f"a.wav\t{expected.text}"
    assert said[1].startswith("deep/a.npy\t")


def test_lines_are_said_on_stdout_with_timestamps_if_asked_for(
    model: Paraformer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = features(tmp_path / "a.npy", 9)
    infer_paths(loaded(model), [path], tmp_path / "out", timestamps=True)
    first, *rest = capsys.readouterr().out.splitlines()
    found = transcribe(model, path)
    assert first == f"a.npy\t{found.text}"
    assert rest == timestamp_lines(found).splitlines()


def test_a_line_of_timestamps_has_start_end_token_and_probability():
    transcript = Transcript(
        text="ab", tokens=["a", "b"], times=[(0.0, 0.254), (0.254, 12.5)], confidence=[0.987, 0.05]
    )
    assert timestamp_lines(transcript) == (
        "      0.00 -   0.25 s  a   99 %\n      0.25 -  12.50 s  b    5 %"
    )


def test_bad_files_are_reported_by_name_and_the_others_are_written(
    model: Paraformer, tmp_path: Path
):
    good = recording(tmp_path / "in" / "good.wav")
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF")
    np.save(tmp_path / "in" / "odd.npy", np.zeros((4, 3), dtype=np.float32))
    write_wav(tmp_path / "in" / "fast.wav", tone(0.5, rate=22050), 22050)
    said: list[str] = []
    report = infer_paths(
        loaded(model), [tmp_path / "in", tmp_path / "none"], tmp_path / "out", say=said.append
    )
    assert [path.name for path in report.written] == ["fast.wav.json", "good.wav.json"]
    assert report.exit_code == 1
    assert report.errors[0] == f"{tmp_path}/none: there is no such file or folder."
    assert report.errors[1].startswith(f"{tmp_path}/in/bad.wav: ")
    assert report.errors[2].startswith(f"{tmp_path}/in/odd.npy: the shape is [4, 3]; expected")
    assert len(report.errors) == 3
    assert report.warnings == (f"{tmp_path}/in/fast.wav: resampled from 22050 to 16000 Hz",)
    assert said[1] == f"good.wav\t{transcribe(model, good).text}"


def test_nothing_to_recognise_writes_nothing(model: Paraformer, tmp_path: Path):
    report = infer_paths(loaded(model), [tmp_path / "none"], tmp_path / "out")
    assert report.written == ()
    assert report.exit_code == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_more_files_than_are_read_at_once_all_come_out_in_order(
    model: Paraformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("paraformer_asr.infer.SHELF_BATCHES", 1)
    paths = [
        features(tmp_path / f"{i}.npy", size, seed=i)
        for i, size in enumerate([30, 10, 50, 20, 80, 12, 9])
    ]
    said: list[str] = []
    infer_paths(loaded(model), paths, tmp_path / "out", batch_frames=40, say=said.append)
    assert said == [f"{path.name}\t{transcribe(model, path).text}" for path in paths]


def test_a_picture_is_drawn_beside_each_json_file_also_of_silence(
    model: Paraformer, tmp_path: Path
):
    path = features(tmp_path / "a.npy")
    report = infer_paths(loaded(model), [path], tmp_path / "out", picture=True, say=str)
    silence(model)
    infer_paths(loaded(model), [path], tmp_path / "still", picture=True, say=str)
    assert [p.name for p in report.written] == ["a.npy.json", "a.npy.png"]
    png_size(tmp_path / "out" / "a.npy.png")
    png_size(tmp_path / "still" / "a.npy.png")
    assert json.loads((tmp_path / "still" / "a.npy.json").read_text())["text"] == ""


def test_a_place_for_results_that_is_a_file_is_refused(model: Paraformer, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AsrError, match="file: no folder can be made there"):
        infer_paths(loaded(model), [features(tmp_path / "a.npy")], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_result_that_cannot_be_written_is_reported_and_the_others_are_written(
    model: Paraformer, tmp_path: Path
):
    paths = [features(tmp_path / f"{name}.npy") for name in "ab"]
    (tmp_path / "out" / "a.npy.json").mkdir(parents=True)  # a folder stands in the way
    report = infer_paths(loaded(model), paths, tmp_path / "out", say=str)
    assert [path.name for path in report.written] == ["b.npy.json"]
    assert report.errors == (f"{tmp_path}/a.npy: its result cannot be written (Is a directory).",)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.npy.json", "b.npy.json"]


def test_json_keeps_letters_readable_and_refuses_nan():
    transcript = Transcript(text="你", tokens=["你"], times=[(0.0, 1.0)], confidence=[1.0])
    assert '"text": "你"' in as_json(asdict(transcript))
    with pytest.raises(ValueError, match="JSON compliant"):
        as_json({"x": float("nan")})
