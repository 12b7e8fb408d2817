"""Recognition while the recording goes on.

Samples go in piece by piece; the text so far comes out:

    stream = Stream(model)                     # a model trained with model.stream
    for piece in pieces: stream.feed(piece); print(stream.text())
    transcript = stream.finish()

Every stage keeps just what its next piece needs: the samples of unfinished frames, the frames that
stacking still looks at, the encoder's caches, and of integrate-and-fire the weight and the vector
that have not become a token yet. The decoder reads all tokens and encoder frames so far each time,
so an earlier token may still change; the last text is what `infer` gives for the whole recording.

Letters: N samples, T0 frames of 10 ms, T stacked frames, D width, K tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from paraformer_asr.cif import overlap_sum, running_sum
from paraformer_asr.decode import greedy
from paraformer_asr.errors import AsrError
from paraformer_asr.features import frame_sizes
from paraformer_asr.infer import Transcript, as_transcript, evaluating
from paraformer_asr.inputs import FRAME_SECONDS
from paraformer_asr.models import Paraformer, Prediction


class StackStream:
    """Frames to stacked, normalised feats: `Frontend.forward`, piece by piece."""

    def __init__(self, model: Paraformer) -> None:
        self.frontend = model.frontend
        self.stack, self.stride = self.frontend.config.stack, self.frontend.config.stride
        self.frames = torch.zeros(0, self.frontend.config.num_mels)
        self.first = 0
        """Number of the frame that `frames` begins with."""
        self.rows = 0
        """Stacked rows given out so far."""

    def push(self, frames: Tensor, *, last: bool) -> Tensor:
        """Take frames (t, M); give the rows (t', stack * M) that they complete."""
        self.frames = torch.cat([self.frames.to(frames), frames])
        end = self.first + len(self.frames)
        before, after = (self.stack - 1) // 2, self.stack // 2
        if last:
            ready = -(-end // self.stride)
        else:  # a row needs the frames after its middle too
            ready = max(self.rows, (end - 1 - after) // self.stride + 1)
        middles = torch.arange(self.rows, ready, device=frames.device) * self.stride
        wanted = middles[:, None] + torch.arange(-before, after + 1, device=frames.device)
        wanted = wanted.clamp(0, max(end - 1, 0)) - self.first
        rows = self.frames[wanted].flatten(1)
        self.rows = ready
        keep = max(self.first, min(ready * self.stride - before, end))
        self.frames = self.frames[keep - self.first :]
        self.first = keep
        return (rows + self.frontend.shift) * self.frontend.scale


class CifStream:
    """Encoder frames to token vectors: `CifPredictor.forward`, piece by piece.

    The convolution looks one frame ahead, so the newest frame waits for the next. What has been
    integrated and has not fired goes on as a first frame of its own: its mean vector, with its
    weight.
    """

    def __init__(self, model: Paraformer) -> None:
        self.predictor = model.predictor
        self.waiting = torch.zeros(1, 0, model.config.model.dim)
        """The last two frames: one whose weight is known, as context, and the newest."""
        self.known = 0
        """How many of `waiting` have a weight already: 0 or 1."""
        self.rest_weight = torch.zeros(1, 1)
        self.rest_sum = torch.zeros(1, 1, model.config.model.dim)
        self.alphas = torch.zeros(1, 0)
        """All weights so far, for the times."""

    def push(self, hidden: Tensor, *, last: bool) -> Tensor:
        """Take encoder frames (1, t, D); give the vectors (1, k, D) of tokens that are complete.

        With `last` the rest becomes a token too, if it is at least 1 - tail.
        """
        hidden = torch.cat([self.waiting.to(hidden), hidden], dim=1)
        T = hidden.shape[1]
        ready = T if last else max(T - 1, self.known)
        if ready == self.known:
            alphas = self.alphas[:, :0].to(hidden)
        else:
            alphas = self.predictor.alphas(hidden, hidden.new_ones(1, T, dtype=torch.bool))
            alphas = alphas[:, self.known : ready]
        frames = hidden[:, self.known : ready]
        self.known = min(1, ready)
        self.waiting = hidden[:, ready - self.known :]
        self.alphas = torch.cat([self.alphas.to(alphas), alphas], dim=1)

        # In float64 (where the device has it): the rest is carried through the whole recording.
        sums = running_sum(alphas)
        weight, total = self.rest_weight.to(sums), self.rest_sum.to(sums)
        ends = torch.cat([weight, weight + sums], dim=1)
        frames = torch.cat([total / weight.clamp_min(1e-8)[..., None], frames.to(sums)], dim=1)
        counts = (ends[:, -1] + (self.predictor.tail if last else 0.0)).floor().long()
        embeds = overlap_sum(frames, ends, counts)
        weights = torch.cat([weight, alphas], dim=1)
        self.rest_weight = ends[:, -1:] - counts[:, None]
        everything = (weights[..., None] * frames).sum(dim=1, keepdim=True)
        self.rest_sum = everything - embeds.sum(dim=1, keepdim=True)
        return embeds.to(hidden.dtype)


class Stream:
    """One recording in the making.

    Args:
        model: trained with `model.stream`; used in evaluation mode and left as it was.
    Raises:
        AsrError: the model sees whole utterances.
    """

    def __init__(self, model: Paraformer) -> None:
        settings = model.config.model.stream
        if settings is None:
            raise AsrError(
                "this model sees whole utterances and cannot begin before they end; train one with "
                "model.stream={chunk: 10, left: 20, right: 5}, such as configs/stream.yaml."
            )
        self.model = model
        self.settings = settings
        self.device = next(model.parameters()).device
        self.samples = torch.zeros(0)
        self.stacking = StackStream(model)
        self.feats = torch.zeros(0, model.frontend.dim, device=self.device)
        self.encoding = model.encoder.start(1)  # type: ignore[operator]
        self.hidden = torch.zeros(1, 0, model.config.model.dim, device=self.device)
        self.firing = CifStream(model)
        self.embeds = torch.zeros(1, 0, model.config.model.dim, device=self.device)
        self.num_samples = self.num_frames = 0
        self.finished = False

    @property
    def latency(self) -> float:
        """Seconds of sound after a frame that its chunk waits for, at most."""
        ahead = self.settings.chunk + self.settings.right
        return ahead * self.model.frontend.frame_seconds

    def feed(self, samples: Tensor) -> bool:
        """Take the next samples; True if a token was completed.

        Args:
            samples: (N,) float32 in [-1, 1] at the model's rate; any number, also none.
        Raises:
            AsrError: not such samples, or the stream is finished.
        """
        if self.finished:
            raise AsrError("this stream is finished; make a new one for the next recording.")
        if samples.ndim != 1 or not samples.is_floating_point():
            raise AsrError(
                f"samples are {list(samples.shape)} {samples.dtype}; expected (N,) float in "
                "[-1, 1]: mix channels, and divide 16-bit integers by 32768."
            )
        self.num_samples += len(samples)
        samples = torch.cat([self.samples, samples.float().cpu()])
        window, hop = frame_sizes(self.model.frontend.config.sample_rate)
        if len(samples) < window:
            self.samples = samples
            return False
        num_frames = 1 + (len(samples) - window) // hop
        self.samples = samples[num_frames * hop :]
        frames = self.model.frontend.frames(samples[: (num_frames - 1) * hop + window])
        return self.push_frames(frames)

    def push_frames(self, frames: Tensor, *, last: bool = False) -> bool:
        """Take log-mel frames (t, M) instead of samples; True if a token was completed."""
        self.num_frames += len(frames)
        with torch.inference_mode(), evaluating(self.model):
            feats = self.stacking.push(frames.to(self.device), last=last)
            self.feats = torch.cat([self.feats, feats])
            pieces = list(self._encoded(last=last))
            hidden = torch.cat(pieces, dim=1) if pieces else self.hidden[:, :0]
            self.hidden = torch.cat([self.hidden, hidden], dim=1)
            embeds = self.firing.push(hidden, last=last)
            self.embeds = torch.cat([self.embeds, embeds.to(self.hidden)], dim=1)
        return embeds.shape[1] > 0

    def _encoded(self, *, last: bool) -> Iterator[Tensor]:
        """Run the encoder over the windows that are complete; at the end over all that is left."""
        chunk, size = self.settings.chunk, self.settings.chunk + self.settings.right
        while len(self.feats) >= size or (last and len(self.feats)):
            window = self.feats[:size]
            padded = torch.nn.functional.pad(window, (0, 0, 0, size - len(window)))
            ends = last and len(self.feats) <= chunk
            hidden, self.encoding = self.model.encoder.step(  # type: ignore[operator]
                padded[None], len(window), self.encoding, last=last
            )
            self.feats = self.feats[chunk:]
            yield hidden
            if ends:
                return

    @property
    def seconds(self) -> float:
        """Of sound so far: of the samples or, where only frames were given, of those."""
        rate = self.model.frontend.config.sample_rate
        return self.num_samples / rate if self.num_samples else self.num_frames * FRAME_SECONDS

    def finish(self, seconds: float | None = None) -> Transcript:
        """Say that the recording has ended; the whole transcript.

        Args:
            seconds: length of the recording, which no time will exceed; None takes `seconds`.
        Raises:
            AsrError: fewer samples than one window were fed.
        """
        if not self.finished:
            if self.num_frames == 0:
                window, _ = frame_sizes(self.model.frontend.config.sample_rate)
                raise AsrError(
                    f"the recording ended after {self.num_samples} samples, fewer than one window "
                    f"of {window} (25 ms)."
                )
            self.push_frames(self.stacking.frames[:0], last=True)
            self.finished = True
        return self.transcript(seconds)

    def text(self) -> str:
        """The text so far."""
        return self.transcript().text

    def transcript(self, seconds: float | None = None) -> Transcript:
        """What has been recognised so far, with times and probabilities."""
        num_tokens, num_frames = self.embeds.shape[1], self.hidden.shape[1]
        counts = torch.tensor([num_tokens], device=self.device)
        lens = torch.tensor([num_frames], device=self.device)
        if num_tokens == 0:
            return Transcript(text="", tokens=[], times=[], confidence=[])
        with torch.inference_mode(), evaluating(self.model):
            logits = self.model.decoder(self.embeds, counts, self.hidden, lens)
        alphas = self.firing.alphas
        alphas = torch.nn.functional.pad(alphas, (0, num_frames - alphas.shape[1]))
        prediction = Prediction(
            logits=logits, counts=counts, alphas=alphas, hidden_lens=lens, attention=None
        )
        found = greedy(
            prediction,
            self.model.tokenizer,
            self.model.frontend.frame_seconds,
            durations=[self.seconds if seconds is None else seconds],
        )
        return as_transcript(found[0])
