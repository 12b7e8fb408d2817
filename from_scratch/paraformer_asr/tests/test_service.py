"""The HTTP service, asked by a client in the same process."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service is an optional extra")

from starlette.testclient import TestClient
from untrained import NUM_MELS, features, loaded, recording, silence, tiny_model, tone

from paraformer_asr.audio import write_wav
from paraformer_asr.errors import AsrError
from paraformer_asr.infer import transcribe
from paraformer_asr.service import create_app, listen, serve


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(loaded(tiny_model()), max_seconds=3, max_bytes=500_000))


def rows(num_frames: int = 40) -> list[list[float]]:
    return np.random.default_rng(0).normal(10, 2, (num_frames, NUM_MELS)).round(3).tolist()


def refusal(client: TestClient, status: int, body: Any, path: str = "/recognize") -> str:
    """Post a body (bytes, or a value as JSON); check the status and return the reason."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    reason: str = answer.json()["detail"]
    return reason


def test_features_are_recognised_as_transcribe_does_it(client: TestClient, tmp_path: Path):
    values = np.load(features(tmp_path / "a.npy", 50))
    answer = client.post("/recognize", json={"features": values.tolist()})
    expected = transcribe(tiny_model(), tmp_path / "a.npy")
    assert answer.status_code == 200
    found = answer.json()
    assert list(found) == ["text", "tokens", "times", "confidence", "duration", "notes"]
    assert (found["text"], found["tokens"]) == (expected.text, expected.tokens)
    np.testing.assert_allclose(found["times"], expected.times, atol=1e-3)
    np.testing.assert_allclose(found["confidence"], expected.confidence, atol=1e-3)
    assert (found["duration"], found["notes"]) == (0.5, [])


def test_a_wav_file_is_recognised_as_transcribe_does_it(client: TestClient, tmp_path: Path):
    path = recording(tmp_path / "a.wav", 0.7)
    answer = client.post("/recognize/wav", content=path.read_bytes())
    assert answer.status_code == 200
    assert answer.json()["text"] == transcribe(tiny_model(), path).text != ""
    assert answer.json()["duration"] == 0.7


def test_what_was_done_to_a_recording_is_told(client: TestClient, tmp_path: Path):
    write_wav(tmp_path / "a.wav", tone(0.5, rate=22050), 22050)
    answer = client.post("/recognize/wav", content=(tmp_path / "a.wav").read_bytes())
    assert answer.json()["notes"] == ["resampled from 22050 to 16000 Hz"]


def test_silence_is_an_empty_text_and_no_error():
    model = tiny_model()
    silence(model)
    answer = TestClient(create_app(loaded(model))).post("/recognize", json={"features": rows()})
    assert answer.status_code == 200
    assert (answer.json()["text"], answer.json()["tokens"]) == ("", [])


def test_whole_numbers_are_numbers(client: TestClient):
    answer = client.post("/recognize", json={"features": [[1] * NUM_MELS] * 20})
    assert answer.status_code == 200


def test_health_and_schema_say_what_runs_and_what_it_wants(client: TestClient):
    assert client.get("/health").json() == {
        "status": "ok",
        "version": "0.1.0",
        "model": "untrained",
        "step": 7,
        "device": "cpu",
    }
    schema = client.get("/schema").json()
    assert schema.pop("features").startswith("rows of 20 natural logarithms of mel energies")
    assert schema == {
        "num_mels": 20,
        "frame_seconds": 0.01,
        "sample_rate": 16000,
        "vocabulary_size": 10,
        "max_seconds": 3,
        "max_bytes": 500_000,
    }


def test_the_description_for_programs_names_both_bodies(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    wanted = {
        path: list(paths[path]["post"]["requestBody"]["content"])
        for path in paths
        if "post" in paths[path]
    }
    assert wanted == {"/recognize": ["application/json"], "/recognize/wav": ["audio/wav"]}


def test_rows_of_a_wrong_width_are_refused_with_the_right_one(client: TestClient):
    assert refusal(client, 422, {"features": [[0.0] * NUM_MELS, [0.0] * 80]}) == (
        "features[1] has 80 numbers; this model takes 20 mel bands (GET /schema)."
    )


def test_no_frames_are_refused(client: TestClient):
    assert refusal(client, 422, {"features": []}) == (
        "features is empty; expected at least one frame."
    )
    assert refusal(client, 422, {"features": [[]]}).startswith("features[0] has 0 numbers")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_no_numbers_in_json(client: TestClient, word: str):
    row = ", ".join(["0"] * (NUM_MELS - 1) + [word])
    assert refusal(client, 422, f'{{"features": [[{row}]]}}'.encode()) == (
        f"the body holds {word}, which is no number in JSON; send finite ones."
    )


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e40", "9" * 400])
def test_numbers_beyond_any_energy_are_refused(client: TestClient, number: str):
    row = ", ".join(["0"] * (NUM_MELS - 1) + [number])
    assert refusal(client, 422, f'{{"features": [[{row}]]}}'.encode()) == (
        "features[0][19] is too large; log-mel values lie within 100."
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [("1.5", "text"), (None, "null"), (True, "true"), ([1], "a list"), ({}, "an object")],
)
def test_what_is_no_number_is_named_with_its_place(client: TestClient, value: Any, name: str):
    frame = [0.0] * NUM_MELS
    bad = [*frame[:3], value, *frame[4:]]
    assert refusal(client, 422, {"features": [frame, bad]}) == (
        f"features[1][3] is {name}; expected a number."
    )


def test_other_shapes_of_json_are_refused_with_the_right_one(client: TestClient):
    wanted = 'expected {"features": [[...], ...]}.'
    assert refusal(client, 422, []) == f"found a list; {wanted}"
    assert refusal(client, 422, 3) == f"found a number; {wanted}"
    assert refusal(client, 422, "x") == f"found text; {wanted}"
    assert refusal(client, 422, {"feats": []}) == f"found the keys ['feats']; {wanted}"
    assert refusal(client, 422, {"features": "x"}) == "features is text; expected a list of frames."
    assert refusal(client, 422, {"features": [1, 2]}) == (
        "features[0] is a number; expected a list of 20 numbers."
    )
    assert refusal(client, 422, {"features": rows(), "feature": 1}) == (
        "'feature' is no key here. Did you mean features? Leave it out."
    )


def test_what_is_not_json_is_refused(client: TestClient):
    assert refusal(client, 400, b"") == "the body is empty; GET /schema says what to send."
    assert refusal(client, 400, b"{'features'}").startswith("the body is not JSON (Expecting")
    assert refusal(client, 400, b'{"features": [[1').startswith("the body is not JSON (")
    assert refusal(client, 400, b"\xff\xfa\x00\x00").startswith("byte 0 of the body is not UTF-8")
    assert refusal(client, 400, b"[" * 100_000).startswith("the JSON is nested too deeply")
    assert "not JSON (Exceeds the limit" in refusal(client, 400, b"9" * 5000)


def test_too_much_at_once_is_refused(client: TestClient, tmp_path: Path):
    assert refusal(client, 413, {"features": [[0] * NUM_MELS] * 301}) == (
        "3.0 seconds are longer than the 3 that this service takes; cut the recording at pauses."
    )
    assert refusal(client, 413, b" " * 500_001) == (
        "the body is larger than 500000 bytes; send less at once."
    )
    long = recording(tmp_path / "long.wav", 4)
    assert refusal(client, 413, long.read_bytes(), "/recognize/wav").startswith("4.0 seconds are")


def test_a_body_that_does_not_tell_its_length_is_limited_too(client: TestClient):
    pieces = (b" " * 100_000 for _ in range(6))
    answer = client.post("/recognize", content=pieces)
    assert answer.status_code == 413


def test_features_too_short_for_the_encoder_are_refused():
    model = tiny_model(encoder="conformer", subsampling="conv2d")
    other = TestClient(create_app(loaded(model)))
    assert refusal(other, 422, {"features": rows(3)}).startswith(
        "features: 3 frames of 10 ms are too short for this encoder, which needs 13"
    )


def test_bad_recordings_are_refused_as_files_are(client: TestClient, tmp_path: Path):
    path = "/recognize/wav"
    assert refusal(client, 400, b"", path).startswith("the body is empty; GET /schema")
    assert refusal(client, 422, b"fLaC1234", path).startswith("the body: is a FLAC file, not a pl")
    whole = recording(tmp_path / "a.wav").read_bytes()
    assert refusal(client, 422, whole[:900], path).startswith("the body: is cut off: the header pr")
    write_wav(tmp_path / "short.wav", tone(0.02), 16000)
    short = (tmp_path / "short.wav").read_bytes()
    assert "the body: has 320 samples at 16000 Hz, fewer than" in refusal(client, 422, short, path)


def test_other_methods_and_places_are_refused(client: TestClient):
    assert client.get("/recognize").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_several_requests_at_once_get_their_own_answers(client: TestClient):
    frames = [np.full((20 + 7 * i, NUM_MELS), 10 + i / 3).tolist() for i in range(6)]
    alone = [client.post("/recognize", json={"features": f}).json() for f in frames]
    together: list[Any] = [None] * len(frames)

    def ask(i: int) -> None:
        together[i] = client.post("/recognize", json={"features": frames[i]}).json()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, missing: str
):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        AsrError, match=r"the service needs \w+; install it with: pip install fasta"
    ):
        serve(loaded(tiny_model()))


def test_a_port_in_use_or_out_of_range_is_an_error_in_words():
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AsrError) as caught:
            serve(loaded(tiny_model()), "127.0.0.1", port)
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{port} (Address already in use); choose another with --port."
    )
    with pytest.raises(AsrError, match="port 70000: choose from 1 to 65535"):
        listen("127.0.0.1", 70000)
    with pytest.raises(AsrError, match=r"cannot listen on no\.such\.host\.invalid:8000 \("):
        listen("no.such.host.invalid", 8000)


def test_the_service_answers_over_a_real_connection():
    uvicorn = pytest.importorskip("uvicorn")
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    app = create_app(loaded(tiny_model()))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        body = json.dumps({"features": rows()}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/recognize", data=body)
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
        assert found["text"] == "".join(found["tokens"]) != ""
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
