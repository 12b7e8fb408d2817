"""Recognition piece by piece gives what recognition of the whole gives."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from small import small_config

from paraformer_asr.audio import write_wav
from paraformer_asr.checkpoints import Loaded
from paraformer_asr.errors import AsrError
from paraformer_asr.infer import recognize, transcribe
from paraformer_asr.inputs import Sound
from paraformer_asr.models import build_model
from paraformer_asr.stream import CifStream, StackStream, Stream
from paraformer_asr.stream_files import read_samples, stream_paths


def model_with(encoder="sanm", *, chunk=4, left=5, right=2, stack=3, stride=2, **features):
    torch.manual_seed(0)
    config = small_config(
        model={
            "encoder": encoder,
            "encoder_layers": 2,
            "stream": {"chunk": chunk, "left": left, "right": right},
        },
        features={"stack": stack, "stride": stride, **features},
    )
    return build_model(config).eval()


def streamed(model, frames, piece):
    stream = Stream(model)
    for part in frames.split(piece):
        stream.push_frames(part)
    return stream, stream.finish()


@pytest.mark.parametrize("encoder", ["transformer", "sanm"])
@pytest.mark.parametrize("right", [0, 3])
@pytest.mark.parametrize(("stack", "stride"), [(1, 1), (3, 2), (7, 6), (4, 3)])
def test_pieces_give_the_same_logits_and_times_as_the_whole(encoder, right, stack, stride):
    model = model_with(encoder, right=right, stack=stack, stride=stride)
    for num_frames in (1, 2, 7, 50, 123):
        frames = torch.randn(num_frames, 20)
        feats = model.frontend(frames)
        whole = model.predict(feats[None], torch.tensor([len(feats)]))
        (expected,) = recognize(model, [Sound(frames, num_frames * 0.01)])
        for piece in (1, 5, 1000):
            stream, transcript = streamed(model, frames, piece)
            count = stream.embeds.shape[1]
            assert count == int(whole.counts[0])
            torch.testing.assert_close(stream.firing.alphas, whole.alphas, atol=1e-6, rtol=0)
            with torch.inference_mode():
                logits = model.decoder(
                    stream.embeds, torch.tensor([count]), stream.hidden, whole.hidden_lens
                )
            torch.testing.assert_close(logits, whole.logits, atol=1e-5, rtol=0)
            assert transcript.text == expected.text
            np.testing.assert_allclose(transcript.times, expected.times, atol=1e-4)


def test_samples_give_the_same_text_as_the_recording(tmp_path):
    model = model_with()
    samples = 0.1 * torch.randn(16000)
    write_wav(tmp_path / "x.wav", samples.numpy(), 16000, bits=32)
    expected = transcribe(model, tmp_path / "x.wav")
    for piece in (7, 160, 399, 16000):
        stream = Stream(model)
        for part in samples.split(piece):
            stream.feed(part)
        found = stream.finish()
        assert found.text == expected.text
        assert found.tokens == expected.tokens
        np.testing.assert_allclose(found.times, expected.times, atol=2e-3)


def test_text_comes_before_the_end():
    model = model_with()
    torch.nn.init.constant_(model.predictor.output.bias, 1.0)
    stream = Stream(model)
    grown = [stream.push_frames(part) for part in torch.randn(100, 20).split(10)]
    assert any(grown[:5])
    assert len(stream.transcript().tokens) > 0
    stream.finish()


def test_nothing_after_the_waiting_frames_changes_what_was_encoded():
    model = model_with(chunk=4, right=2, stack=1, stride=1)
    frames = torch.randn(60, 20)
    stream, _ = streamed(model, frames, 60)
    changed = frames.clone()
    changed[30:] += 1
    other, _ = streamed(model, changed, 60)
    own = 28 - 4  # chunks that end before frame 30 - right
    torch.testing.assert_close(stream.hidden[:, :own], other.hidden[:, :own])
    assert not torch.allclose(stream.hidden[:, 28:], other.hidden[:, 28:])


def test_stacked_rows_are_those_of_the_whole():
    for stack, stride in [(1, 1), (2, 1), (3, 3), (7, 6), (5, 2)]:
        model = model_with(stack=stack, stride=stride)
        frames = torch.randn(41, 20)
        stacking = StackStream(model)
        rows = [stacking.push(part, last=False) for part in frames.split(3)]
        rows.append(stacking.push(frames[:0], last=True))
        assert torch.equal(torch.cat(rows), model.frontend(frames))
        assert len(stacking.frames) <= stack + stride


def test_vectors_are_those_of_the_whole():
    model = model_with()
    hidden = torch.randn(1, 200, 16)
    lens = torch.tensor([200])
    with torch.no_grad():
        whole = model.predictor(hidden, lens)
    for piece in (1, 3, 64):
        firing = CifStream(model)
        with torch.no_grad():
            parts = [firing.push(part, last=False) for part in hidden.split(piece, dim=1)]
            parts.append(firing.push(hidden[:, :0], last=True))
        embeds = torch.cat(parts, dim=1)
        assert embeds.shape == whole.embeds.shape
        torch.testing.assert_close(embeds, whole.embeds, atol=1e-5, rtol=0)
        assert firing.waiting.shape[1] <= 2


def test_the_mode_of_the_model_is_left_as_it_was():
    model = model_with().train()
    stream = Stream(model)
    stream.push_frames(torch.randn(30, 20))
    stream.finish()
    assert model.training


def test_a_model_of_whole_utterances_is_refused():
    model = build_model(small_config())
    with pytest.raises(AsrError, match=r"cannot begin before they end; train one with model\.str"):
        Stream(model)


def test_a_finished_stream_takes_no_more():
    stream = Stream(model_with())
    stream.push_frames(torch.randn(30, 20))
    first = stream.finish()
    assert stream.finish() == first
    with pytest.raises(AsrError, match="make a new one for the next recording"):
        stream.feed(torch.zeros(100))


def test_too_few_samples_are_named():
    stream = Stream(model_with())
    stream.feed(torch.zeros(399))
    with pytest.raises(AsrError, match="399 samples, fewer than one window of 400"):
        stream.finish()


@pytest.mark.parametrize("samples", [torch.zeros(2, 100), torch.zeros(100, dtype=torch.int16)])
def test_wrong_samples_are_refused(samples):
    with pytest.raises(AsrError, match="mix channels, and divide 16-bit integers by 32768"):
        Stream(model_with()).feed(samples)


def test_the_latency_is_that_of_a_window():
    assert Stream(model_with(chunk=4, right=2, stride=2)).latency == pytest.approx(0.12)


def loaded_with(model, tmp_path):
    return Loaded(
        model=model, config=model.config, step=1, device=torch.device("cpu"), path=tmp_path
    )


def test_files_and_stdin_are_followed(tmp_path):
    model = model_with(num_mels=20)
    samples = 0.1 * torch.randn(16000)
    write_wav(tmp_path / "x.wav", samples.numpy(), 16000)
    whole = np.round(samples.numpy() * 32767).astype("<i2").tobytes()
    said: list[str] = []
    report = stream_paths(
        loaded_with(model, tmp_path),
        [tmp_path / "x.wav", tmp_path / "none.wav", "-"],
        tmp_path / "out",
        timestamps=True,
        say=said.append,
        stdin=io.BytesIO(whole + b"\0"),  # an odd byte at the end is left out
    )
    assert report.exit_code == 1
    assert [path.name for path in report.written] == ["x.wav.json", "stdin.json"]
    assert "none.wav" in report.errors[0]
    expected = transcribe(model, tmp_path / "x.wav")
    found = json.loads((tmp_path / "out" / "x.wav.json").read_text(encoding="utf-8"))
    assert found["text"] == expected.text
    assert f"x.wav\t{expected.text}" in said
    assert any(" s\t" in line for line in said)


def test_stdin_without_sound_is_an_error(tmp_path):
    report = stream_paths(
        loaded_with(model_with(), tmp_path), ["-"], tmp_path, stdin=io.BytesIO(b"")
    )
    assert report.errors == (
        "stdin: the recording ended after 0 samples, fewer than one window of 400 (25 ms).",
    )


def test_samples_of_stdin_are_read_as_they_come():
    values = np.array([0, 16384, -32768, 1], dtype="<i2").tobytes()
    pieces = list(read_samples(io.BytesIO(values), 3))
    assert torch.cat(pieces).tolist() == [0, 0.5, -1, 1 / 32768]
