"""Evaluation of real, untrained models on toy and on recorded data."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from untrained import loaded, png_size, recording, silence, tiny_config, tiny_model

from paraformer_asr.alignment import align
from paraformer_asr.checkpoints import Loaded
from paraformer_asr.config import config_from_dict, config_to_dict
from paraformer_asr.data.batches import Batches
from paraformer_asr.data.build import build_datasets
from paraformer_asr.data.toy import ToySpeech
from paraformer_asr.errors import AsrError
from paraformer_asr.evaluate import evaluate_run, hardware, score, speakers_of
from paraformer_asr.infer import recognize
from paraformer_asr.inputs import Sound
from paraformer_asr.losses import Losses
from paraformer_asr.metrics import error_rate
from paraformer_asr.models import build_model
from paraformer_asr.tables import (
    Scored,
    confusion_table,
    confusions,
    overview,
    report,
    utterance_table,
)
from paraformer_asr.validate import validate


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scored(*pairs: tuple[str, str], speaker: str = "") -> list[Scored]:
    """What `evaluate.score` would make of texts (said, heard)."""
    made = []
    for index, (reference, hypothesis) in enumerate(pairs):
        alignment = align(reference, hypothesis)
        made.append(
            Scored(
                index=index,
                name=f"u{index}",
                speaker=speaker,
                reference=reference,
                hypothesis=hypothesis,
                alignment=alignment,
                errors=alignment.error_rate,
            )
        )
    return made


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, dict[str, Any], Path, str]:
    """A model, its evaluation on toy data, where the files are, and what was said."""
    out = tmp_path_factory.mktemp("run") / "new"
    said: list[str] = []
    whole = loaded(tiny_model())
    values = evaluate_run(whole, "test", out=out, say=said.append)
    return whole, values, out, "\n".join(said)


def test_the_numbers_are_those_of_decoding_each_utterance_alone(evaluated):
    whole, values, _, _ = evaluated
    dataset = build_datasets(whole.config)["test"]
    utterances = [dataset.load(index) for index in range(len(dataset))]
    heard = [
        recognize(whole.model, [Sound(each.frames, len(each.frames) / 100)])[0].text
        for each in utterances
    ]
    expected = error_rate([each.text for each in utterances], heard)
    assert values["cer"]["rate"] == pytest.approx(expected.rate)
    assert values["cer"]["insertions"] == expected.insertions
    assert values["cer"]["substitutions"] == expected.substitutions
    assert values["cer"]["reference_length"] == sum(len(each.text) for each in utterances)
    wrong = [each.text != text for each, text in zip(utterances, heard, strict=True)]
    assert values["sentence_error_rate"] == sum(wrong) / 9
    counts = [len(each.text) != len(text) for each, text in zip(utterances, heard, strict=True)]
    assert values["miscounted"] == sum(counts) / 9
    assert values["utterances"] == 9


def test_loss_and_count_error_are_those_of_validation(evaluated):
    whole, values, _, _ = evaluated
    dataset = build_datasets(whole.config)["test"]
    batches = Batches(
        dataset, whole.model.frontend, whole.model.tokenizer, whole.config, train=False
    )
    expected = validate(whole.model, batches, Losses(whole.config.loss))
    assert values["loss"] == pytest.approx(expected["valid_loss"], rel=1e-5)
    assert values["cer"]["rate"] == pytest.approx(expected["valid_cer"])
    assert values["count_error"] == pytest.approx(expected["valid_count_error"], rel=1e-5)
    assert values["losses"]["quantity"] == values["count_error"]
    assert set(values["losses"]) == {"ce", "quantity", "ctc"}


def test_token_accuracy_is_measured_with_the_true_number_of_tokens(evaluated):
    whole, values, _, _ = evaluated
    dataset = build_datasets(whole.config)["test"]
    right = total = 0
    for index in range(len(dataset)):
        utterance = dataset.load(index)
        feats = whole.model.frontend(utterance.frames)
        tokens = torch.tensor([whole.model.tokenizer.encode(utterance.text)])
        lens = torch.tensor([tokens.shape[1]])
        with torch.no_grad():
            logits = whole.model(feats[None], torch.tensor([len(feats)]), tokens, lens).logits
        right += int((logits.argmax(dim=2) == tokens).sum())
        total += tokens.shape[1]
    assert values["token_accuracy"] == pytest.approx(right / total)


def test_the_files_hold_all_utterances_and_errors(evaluated):
    _, values, out, _ = evaluated
    assert sorted(path.name for path in out.iterdir()) == [
        "confusions_test.csv",
        "evaluation_test.json",
        "examples_test.png",
        "utterances_test.csv",
    ]
    assert json.loads((out / "evaluation_test.json").read_text(encoding="utf-8")) == values
    utterances = rows_of(out / "utterances_test.csv")
    assert [row["name"] for row in utterances] == [f"toy-test-{i:05d}" for i in range(9)]
    for short, name in (("S", "substitutions"), ("D", "deletions"), ("I", "insertions")):
        assert sum(int(row[short]) for row in utterances) == values["cer"][name]
        counted = rows_of(out / "confusions_test.csv")
        assert sum(int(r["count"]) for r in counted if r["kind"] == short) == values["cer"][name]
    width, height = png_size(out / "examples_test.png")
    assert width > height / 2


def test_the_time_is_given_with_all_that_it_depends_on(evaluated):
    whole, values, _, said = evaluated
    speed = values["speed"]
    dataset = build_datasets(whole.config)["test"]
    assert speed["audio_seconds"] == pytest.approx(sum(dataset.lengths(0)) / 100, abs=0.02 * 9)
    assert speed["real_time_factor"] > 0
    assert speed["real_time_factor_with_prepare"] > speed["real_time_factor"]
    assert speed["threads"] == torch.get_num_threads()
    assert (speed["batch_frames"], speed["max_batch"]) == (300, 64)
    assert speed["hardware"] == hardware(torch.device("cpu"))
    assert "cpu" in speed["hardware"]
    assert f"on {speed['hardware']}, {speed['threads']} threads, batches of 300 frames" in said


def test_what_is_said_shows_numbers_worst_utterances_and_confusions(evaluated):
    _, values, out, said = evaluated
    assert said.startswith("test: 9 utterances, ")
    assert f"CER               {100 * values['cer']['rate']:.2f} %" in said
    assert "normalization     none (texts as they are)" in said
    assert said.count("REF:") == said.count("HYP:") == 5
    assert "Most frequent confusions:" in said
    rows = rows_of(out / "utterances_test.csv")
    errors = {row["name"]: sum(int(row[k]) for k in "SDI") / len(row["reference"]) for row in rows}
    assert said.split("Worst utterances:\n\n")[1].startswith(max(errors, key=errors.__getitem__))


def test_the_tables_go_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    evaluate_run(loaded(tiny_model()), "valid", out=tmp_path)
    assert capsys.readouterr().out.startswith("valid: 5 utterances")


def test_a_model_that_hears_nothing_has_an_error_rate_of_one(tmp_path: Path):
    model = tiny_model()
    silence(model)
    said: list[str] = []
    values = evaluate_run(loaded(model), "valid", out=tmp_path, say=said.append)
    assert values["cer"]["rate"] == 1
    assert values["cer"]["deletions"] == values["cer"]["reference_length"]
    assert values["sentence_error_rate"] == values["miscounted"] == 1
    assert "heard as (nothing)" in said[0]
    png_size(tmp_path / "examples_valid.png")


def test_the_model_is_left_in_its_mode_and_the_numbers_do_not_depend_on_it(tmp_path: Path):
    whole = loaded(tiny_model())
    first = evaluate_run(whole, "valid", out=tmp_path, say=str)
    whole.model.train()
    second = evaluate_run(whole, "valid", out=tmp_path, say=str)
    assert whole.model.training
    del first["speed"], second["speed"]
    assert first == second


def test_an_end_token_is_no_error(tmp_path: Path):
    values = evaluate_run(loaded(tiny_model(end_token=True)), "valid", out=tmp_path, say=str)
    dataset = build_datasets(tiny_config())["valid"]
    assert values["cer"]["reference_length"] == sum(map(len, dataset.texts()))


def test_an_unknown_split_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(AsrError) as caught:
        evaluate_run(loaded(tiny_model()), "tests", out=tmp_path / "new")
    assert str(caught.value) == (
        "'tests' is no split. Did you mean test? Splits: train, valid, test."
    )
    assert not (tmp_path / "new").exists()


def test_one_utterance_makes_a_picture_of_one(tmp_path: Path):
    config = config_to_dict(tiny_config())
    config["data"]["toy"]["num_test"] = 1
    one = config_from_dict(config)
    values = evaluate_run(
        replace(loaded(build_model(one)), config=one), "test", out=tmp_path, say=str
    )
    assert values["utterances"] == 1
    png_size(tmp_path / "examples_test.png")


def manifest_config(folder: Path, join: dict[str, Any] | None) -> Any:
    """Recordings of two speakers, all in one split each."""
    lines = ["path,text,speaker,split"]
    for number in range(12):
        name = f"{number}.wav"
        recording(folder / name, 0.3, seed=number)
        split = ("train", "valid", "test")[number % 3]
        lines.append(f"{name},{'ab'[number % 2]},{('ann', 'bob')[number % 2]},{split}")
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    values = config_to_dict(tiny_config())
    values["data"] |= {"kind": "manifest", "characters": "ab"}
    values["data"]["manifest"] = {"path": str(folder / "m.csv"), "join": join}
    return config_from_dict(values)


@pytest.mark.parametrize("join", [None, {"count": [1, 2], "num_test": 6}])
def test_errors_are_counted_for_each_speaker(tmp_path: Path, join: dict[str, Any] | None):
    config = manifest_config(tmp_path, join)
    torch.manual_seed(0)
    said: list[str] = []
    values = evaluate_run(
        loaded(build_model(config)), "test", out=tmp_path / "out", say=said.append
    )
    dataset = build_datasets(config)["test"]
    speakers = speakers_of(dataset)
    assert set(values["speakers"]) == {"ann", "bob"}
    for speaker, found in values["speakers"].items():
        mine = [i for i, name in enumerate(speakers) if name == speaker]
        assert found["utterances"] == len(mine)
        assert found["reference_length"] == sum(len(dataset.load(i).text) for i in mine)
        assert set("".join(dataset.load(i).text for i in mine)) == {
            {"ann": "a", "bob": "b"}[speaker]
        }
    for name in ("substitutions", "deletions", "insertions", "reference_length", "utterances"):
        total = values["utterances"] if name == "utterances" else values["cer"][name]
        assert sum(found[name] for found in values["speakers"].values()) == total
    assert "  ann      " in said[0]
    assert rows_of(tmp_path / "out" / "utterances_test.csv")[0]["speaker"] == speakers[0]
    assert "features of recordings in memory" in values["speed"]["prepare"]


def test_a_dataset_without_speakers_has_no_table_of_them(evaluated):
    _, values, _, said = evaluated
    assert values["speakers"] == {}
    assert "speaker" not in said


def test_scores_keep_the_order_of_the_dataset():
    dataset = ToySpeech(tiny_config().data.toy, 20, split="test", seed=0)
    heard = dict.fromkeys(reversed(dataset.names), "a")
    found = score(dataset, heard)
    assert [each.name for each in found] == dataset.names
    assert [each.reference for each in found] == list(dataset.texts())


def test_confusions_are_counted_by_kind_and_sorted():
    found = confusions(scored(("abc", "adc"), ("abc", "adc"), ("ab", "a"), ("a", "ax")))
    assert found == [("S", "b", "d", 2), ("D", "b", "", 1), ("I", "", "x", 1)]
    assert confusion_table(found) == (
        "kind,reference,hypothesis,count\r\nS,b,d,2\r\nD,b,,1\r\nI,,x,1\r\n"
    )


def test_tables_survive_commas_quotes_and_line_breaks(tmp_path: Path):
    odd = scored(('a,"b\n', "a,b"))
    path = tmp_path / "t.csv"
    path.write_bytes(utterance_table(odd).encode())
    (row,) = rows_of(path)
    assert (row["reference"], row["hypothesis"]) == ('a,"b\n', "a,b")
    assert (row["S"], row["D"], row["I"]) == ("0", "2", "0")


def test_a_perfect_result_says_so(evaluated):
    _, values, _, _ = evaluated
    text = report(values, scored(("abc", "abc"), ("b", "b")))
    assert text.endswith("\n\nNo utterance has an error.")


def test_an_infinite_rate_is_null_in_the_file_and_inf_in_the_table(evaluated):
    from paraformer_asr.evaluate import rate_values

    nothing_said = rate_values(scored(("", "ab")))
    assert nothing_said["rate"] is None
    assert "inf %" in overview({**evaluated[1], "cer": nothing_said})
