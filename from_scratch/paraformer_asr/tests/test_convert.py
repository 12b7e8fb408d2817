"""FunASR checkpoints of both types, made here by the names and shapes of the published ones.

That the converted networks compute the same is shown beside FunASR itself, in the parity tests of
the repository; here: sizes, names, stacking, files, and everything that can be wrong with them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from paraformer_asr.checkpoints import load_model
from paraformer_asr.convert import convert_file, load_funasr
from paraformer_asr.convert_names import is_known
from paraformer_asr.errors import AsrError

V, D, U = 9, 8, 12
TOKENS = ["<blank>", "<s>", "</s>", "a", "b", "c", "on", "th@@", "<unk>"]


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def sanm_encoder() -> dict[str, tuple[int, ...]]:
    shapes = norm("encoder.after_norm", D)
    for layer, into in (("encoders0.0", 28), ("encoders.0", D), ("encoders.1", D)):
        at = f"encoder.{layer}"
        shapes |= linear(f"{at}.self_attn.linear_q_k_v", 3 * D, into)
        shapes |= linear(f"{at}.self_attn.linear_out", D, D)
        shapes |= {f"{at}.self_attn.fsmn_block.weight": (D, 1, 5)}
        shapes |= linear(f"{at}.feed_forward.w_1", U, D) | linear(f"{at}.feed_forward.w_2", D, U)
        shapes |= norm(f"{at}.norm1", into) | norm(f"{at}.norm2", D)
    return shapes


def conformer_encoder() -> dict[str, tuple[int, ...]]:
    shapes = norm("encoder.after_norm", D)
    shapes |= {"encoder.embed.conv.0.weight": (D, 1, 3, 3), "encoder.embed.conv.0.bias": (D,)}
    shapes |= {"encoder.embed.conv.2.weight": (D, D, 3, 3), "encoder.embed.conv.2.bias": (D,)}
    shapes |= linear("encoder.embed.out.0", D, D * 4)
    for i in range(2):
        at = f"encoder.encoders.{i}"
        for part in ("linear_q", "linear_k", "linear_v", "linear_out"):
            shapes |= linear(f"{at}.self_attn.{part}", D, D)
        shapes |= {f"{at}.self_attn.linear_pos.weight": (D, D)}
        shapes |= {f"{at}.self_attn.pos_bias_{x}": (2, D // 2) for x in "uv"}
        for part in ("feed_forward", "feed_forward_macaron"):
            shapes |= linear(f"{at}.{part}.w_1", U, D) | linear(f"{at}.{part}.w_2", D, U)
        conv = f"{at}.conv_module"
        for part, sizes in (
            ("pointwise_conv1", (2 * D, D, 1)),
            ("depthwise_conv", (D, 1, 7)),
            ("pointwise_conv2", (D, D, 1)),
        ):
            shapes |= {f"{conv}.{part}.weight": sizes, f"{conv}.{part}.bias": sizes[:1]}
        shapes |= norm(f"{conv}.norm", D) | {f"{conv}.norm.num_batches_tracked": ()}
        shapes |= {f"{conv}.norm.running_mean": (D,), f"{conv}.norm.running_var": (D,)}
        for part in ("norm_ff", "norm_mha", "norm_ff_macaron", "norm_conv", "norm_final"):
            shapes |= norm(f"{at}.{part}", D)
    return shapes


def sanm_decoder() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in ("decoders.0", "decoders.1", "decoders3.0"):
        at = f"decoder.{layer}"
        shapes |= linear(f"{at}.feed_forward.w_1", U, D) | norm(f"{at}.feed_forward.norm", U)
        shapes |= {f"{at}.feed_forward.w_2.weight": (D, U)} | norm(f"{at}.norm1", D)
        if layer != "decoders3.0":
            shapes |= {f"{at}.self_attn.fsmn_block.weight": (D, 1, 5)}
            shapes |= linear(f"{at}.src_attn.linear_q", D, D)
            shapes |= linear(f"{at}.src_attn.linear_k_v", 2 * D, D)
            shapes |= linear(f"{at}.src_attn.linear_out", D, D)
            shapes |= norm(f"{at}.norm2", D) | norm(f"{at}.norm3", D)
    return shapes


def san_decoder() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    at = "decoder.decoders.0"
    for part in ("self_attn", "src_attn"):
        for matrix in ("linear_q", "linear_k", "linear_v", "linear_out"):
            shapes |= linear(f"{at}.{part}.{matrix}", D, D)
    shapes |= linear(f"{at}.feed_forward.w_1", U, D) | linear(f"{at}.feed_forward.w_2", D, U)
    for i in (1, 2, 3):
        shapes |= norm(f"{at}.norm{i}", D)
    return shapes


def rest(depthwise: bool) -> dict[str, tuple[int, ...]]:
    shapes = norm("decoder.after_norm", D) | linear("decoder.output_layer", V, D)
    shapes |= {"decoder.embed.0.weight": (V, D), "predictor.cif_conv1d.bias": (D,)}
    shapes |= {"predictor.cif_conv1d.weight": (D, 1 if depthwise else D, 3)}
    return shapes | linear("predictor.cif_output", 1, D)


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    weights = {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    for name in weights:
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(7)
        if name.endswith("running_var"):
            weights[name] = weights[name].abs() + 0.5
    return weights


def large() -> dict[str, Tensor]:
    return filled(sanm_encoder() | sanm_decoder() | rest(depthwise=False))


def aishell() -> dict[str, Tensor]:
    ctc = linear("ctc.ctc_lo", V, D)
    return filled(conformer_encoder() | san_decoder() | rest(depthwise=True) | ctc)


def saved(folder: Path, state: object, tokens: list[str] | None = TOKENS) -> Path:
    path = folder / "model.pt"
    torch.save(state, path)
    if tokens is not None:
        (folder / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    return path


def cmvn_text(size: int) -> str:
    def block(tag: str, value: float) -> str:
        listed = " ".join([str(value)] * size)
        return f"<{tag}> {size} {size}\n<LearnRateCoef> 0 [ {listed} ]\n"

    body = block("AddShift", -0.5) + block("Rescale", 2.0)
    return f"<Nnet>\n<Splice> {size} {size}\n[ 0 ]\n{body}</Nnet>\n"


def test_the_large_type_is_read_whole(tmp_path: Path):
    weights = large()
    converted = load_funasr(saved(tmp_path, weights), heads=2)
    config, report = converted.model.config, converted.report
    assert report.kind == "sanm + sanm"
    assert report.unmatched == ()
    assert report.unfilled == ("frontend.shift", "frontend.scale")
    assert sorted(name for names in report.mapped.values() for name in names) == sorted(weights)
    model = config.model
    assert (model.dim, model.ffn, model.heads, model.kernel) == (8, 12, 2, 5)
    assert (model.encoder_layers, model.decoder_layers) == (3, 2)
    assert (model.norm_eps, model.tail, model.end_token, model.ctc) == (1e-12, 0.45, True, False)
    assert model.predictor == "full"
    assert (config.features.num_mels, config.features.stack, config.features.stride) == (4, 7, 6)
    assert converted.model.tokenizer.tokens == tuple(TOKENS)
    assert not converted.model.training
    own = converted.model.state_dict()
    assert torch.equal(
        own["encoder.layers.2.ffn.up.weight"], weights["encoder.encoders.1.feed_forward.w_1.weight"]
    )


def test_the_aishell_type_is_read_whole_with_its_matrices_stacked(tmp_path: Path):
    weights = aishell()
    converted = load_funasr(saved(tmp_path, weights), heads=4)
    config, report = converted.model.config, converted.report
    assert report.kind == "conformer + san"
    assert report.unmatched == ()
    assert report.unfilled == ("frontend.shift", "frontend.scale")
    model = config.model
    assert (model.heads, model.kernel, model.ctc, model.end_token) == (2, 7, True, False)
    assert (model.subsampling, model.relative, model.predictor) == ("conv2d", "legacy", "depthwise")
    assert (config.features.num_mels, config.features.stack) == (20, 1)
    own = converted.model.state_dict()
    for ours, parts in (
        ("encoder.layers.1.attention.query_key_value", "encoder.encoders.1.self_attn qkv"),
        ("decoder.layers.0.self_attention.query_key_value", "decoder.decoders.0.self_attn qkv"),
        ("decoder.layers.0.cross_attention.key_value", "decoder.decoders.0.src_attn kv"),
    ):
        at, letters = parts.split()
        for leaf in ("weight", "bias"):
            stacked = own[f"{ours}.{leaf}"].chunk(len(letters))
            for part, letter in zip(stacked, letters, strict=True):
                assert torch.equal(part, weights[f"{at}.linear_{letter}.{leaf}"])
    running = own["encoder.layers.0.conv.norm.running_var"]
    assert torch.equal(running, weights["encoder.encoders.0.conv_module.norm.running_var"])
    assert own["encoder.layers.0.conv.norm.num_batches_tracked"] == 7


def test_eighty_mels_are_known_from_nineteen_rows(tmp_path: Path):
    weights = aishell()
    weights["encoder.embed.out.0.weight"] = torch.zeros(D, 19 * D)
    assert load_funasr(saved(tmp_path, weights)).model.config.features.num_mels == 80


def test_a_width_that_seven_does_not_divide_is_not_stacked(tmp_path: Path):
    weights = large()
    weights["encoder.encoders0.0.self_attn.linear_q_k_v.weight"] = torch.zeros(3 * D, 20)
    weights["encoder.encoders0.0.norm1.weight"] = torch.zeros(20)
    weights["encoder.encoders0.0.norm1.bias"] = torch.zeros(20)
    features = load_funasr(saved(tmp_path, weights)).model.config.features
    assert (features.num_mels, features.stack, features.stride) == (20, 1, 1)


@pytest.mark.parametrize("wrap", ["state_dict", "model", "both"])
def test_wrappers_and_prefixes_are_taken_off(tmp_path: Path, wrap: str):
    weights = {f"module.{name}": value.double() for name, value in large().items()}
    state: object = {"epoch": 3, "state_dict" if wrap == "both" else wrap: weights}
    if wrap == "both":
        state = {"model": state, "optimizer": {}}
    converted = load_funasr(saved(tmp_path, state))
    assert converted.report.unmatched == ()
    assert converted.model.decoder.output.weight.dtype == torch.float32


def test_a_folder_stands_for_the_model_in_it(tmp_path: Path):
    saved(tmp_path, large())
    assert load_funasr(tmp_path).report.source == tmp_path / "model.pt"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AsrError, match=r"empty: there is no model\.pt in this folder"):
        load_funasr(empty)


def test_the_mean_and_variance_beside_the_checkpoint_go_into_the_frontend(tmp_path: Path):
    path = saved(tmp_path, large())
    missing = load_funasr(path)
    assert "am.mvn is missing, so features are not normalised" in missing.report.text()
    assert "not filled: frontend.shift" in missing.report.text()
    (tmp_path / "am.mvn").write_text(cmvn_text(28))
    converted = load_funasr(path)
    assert converted.report.unfilled == converted.report.notes == ()
    assert torch.equal(converted.model.frontend.shift, torch.full((28,), -0.5))
    assert torch.equal(converted.model.frontend.scale, torch.full((28,), 2.0))
    (tmp_path / "am.mvn").write_text(cmvn_text(80))
    with pytest.raises(AsrError, match=r"shift is \[80\]; expected \[28\]"):
        load_funasr(path)


def test_tokens_may_come_one_per_line_or_as_an_argument(tmp_path: Path):
    path = saved(tmp_path, large(), tokens=None)
    assert load_funasr(path, characters=TOKENS[3:-1]).model.tokenizer.tokens == tuple(TOKENS)
    (tmp_path / "tokens.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    assert load_funasr(path).model.tokenizer.tokens == tuple(TOKENS)


def test_a_missing_vocabulary_says_which_file_goes_where(tmp_path: Path):
    path = saved(tmp_path, large(), tokens=None)
    with pytest.raises(AsrError) as caught:
        load_funasr(path, strict=True)
    assert "Put the model's tokens.json or tokens.txt (9 tokens" in str(caught.value)
    assert str(caught.value).endswith(f"into {tmp_path}, or give characters=.")
    with pytest.raises(AsrError, match="the vocabulary is missing"):
        convert_file(path, tmp_path / "out.pt")


def test_without_a_vocabulary_tokens_are_called_by_their_number(tmp_path: Path):
    model, report = load_funasr(saved(tmp_path, large(), tokens=None))
    assert "Until then tokens are called by their number." in report.text()
    assert model.tokenizer.size == 9
    assert model.tokenizer.decode([3, 7]) == "{3}{7}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([*TOKENS[:-2], "<unk>"]), r"lists 8 tokens; the model model\.pt has 9"),
        (json.dumps(["a", *TOKENS[1:]]), "begins with a, <s>, </s> and ends with <unk>; expected"),
        (json.dumps([*TOKENS[:5], "a", *TOKENS[6:]]), "tokens.json: character 2 of the vocabulary"),
        (json.dumps({"a": 1}), "expected a list of texts"),
        ('["a",\n', r"tokens\.json:2: not JSON"),
        (b"\xff", "byte 0 is not UTF-8"),
    ],
)
def test_an_unfit_vocabulary_is_refused(tmp_path: Path, content: str | bytes, message: str):
    path = saved(tmp_path, large())
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "tokens.json").write_bytes(data)
    with pytest.raises(AsrError, match=message):
        load_funasr(path)


def test_characters_of_another_number_are_refused(tmp_path: Path):
    path = saved(tmp_path, large(), tokens=None)
    with pytest.raises(AsrError, match="characters lists 2 tokens; the model has 9, of which 5"):
        load_funasr(path, characters="ab")


def test_an_unknown_architecture_names_the_first_tensor_that_does_not_fit(tmp_path: Path):
    weights = {"encoder.after_norm.weight": torch.zeros(4), "encoder.rnn.weight": torch.zeros(4)}
    path = saved(tmp_path, weights)
    message = (
        r"no Paraformer of a known type .*: the first tensor that does not fit is encoder\.rnn"
    )
    with pytest.raises(AsrError, match=message):
        load_funasr(path)
    without = {k: v for k, v in large().items() if not k.startswith("decoder.decoders")}
    with pytest.raises(AsrError, match=r"which tells the decoder\."):
        load_funasr(saved(tmp_path, without))


def test_a_layer_that_ours_has_not_is_refused_or_reported(tmp_path: Path):
    weights = large()
    weights["decoder.decoders2.0.norm1.weight"] = torch.zeros(D)
    del weights["encoder.encoders.1.norm2.bias"]
    path = saved(tmp_path, weights)
    with pytest.raises(AsrError) as caught:
        load_funasr(path, strict=True)
    assert "decoder.decoders2.0.norm1.weight has no counterpart here" in str(caught.value)
    assert "nothing fills our encoder.layers.2.norm_ffn.bias" in str(caught.value)
    report = load_funasr(path).report
    assert report.unmatched == ("decoder.decoders2.0.norm1.weight",)
    assert "encoder.layers.2.norm_ffn.bias" in report.unfilled
    assert "not used: decoder.decoders2.0.norm1.weight" in report.text()


def test_heads_for_times_or_hot_words_are_reported_and_left(tmp_path: Path):
    weights = large() | {"predictor.blstm.weight_ih_l0": torch.zeros(4, D)}
    weights["bias_encoder.weight"] = torch.zeros(3)
    report = load_funasr(saved(tmp_path, weights)).report
    assert report.unmatched == ("predictor.blstm.weight_ih_l0", "bias_encoder.weight")


def test_layers_of_another_width_are_refused_by_name(tmp_path: Path):
    weights = large()
    weights["decoder.decoders.1.feed_forward.w_1.weight"] = torch.zeros(16, D)
    with pytest.raises(AsrError) as caught:
        load_funasr(saved(tmp_path, weights))
    expected = "decoder.decoders.1.feed_forward.w_1.weight is [16, 8]; the other tensors make it"
    assert expected in str(caught.value)


def test_tensors_that_sizes_are_read_from_must_be_there(tmp_path: Path):
    weights = large()
    del weights["encoder.after_norm.weight"]
    with pytest.raises(AsrError, match=r"encoder\.after_norm\.weight is missing; the checkpoint"):
        load_funasr(saved(tmp_path, weights))
    weights = large()
    weights["predictor.cif_conv1d.weight"] = torch.zeros(D)
    with pytest.raises(AsrError, match=r"cif_conv1d\.weight is \[8\]; expected 2 axes"):
        load_funasr(saved(tmp_path, weights))


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path: Path):
    with pytest.raises(
        AsrError, match=r"model\.dim=8 must be even and divisible by model\.heads=3"
    ):
        load_funasr(saved(tmp_path, large()), heads=3)


def test_a_model_without_embeddings_shares_the_output_layer(tmp_path: Path):
    weights = large()
    del weights["decoder.embed.0.weight"]
    model = load_funasr(saved(tmp_path, weights)).model
    assert model.config.model.share_embedding
    assert torch.equal(model.decoder.table, weights["decoder.output_layer.weight"])


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path):
    with pytest.raises(AsrError, match=r"none\.pt: there is no such file; give FunASR's model\.pt"):
        load_funasr(tmp_path / "none.pt")
    path = saved(tmp_path, large())
    content = path.read_bytes()
    for damaged in (b"", b"hello, this is text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(AsrError, match=r"model\.pt: damaged, or not a PyTorch checkpoint"):
            load_funasr(path)
    for empty in ({"epoch": 1}, [1, 2], torch.zeros(3)):
        torch.save(empty, path)
        with pytest.raises(AsrError, match="holds no tensors by name"):
            load_funasr(path)


def test_a_checkpoint_that_could_run_code_is_not_opened(tmp_path: Path):
    path = saved(tmp_path, {"state_dict": large(), "args": Path("x")})
    with pytest.raises(AsrError, match=r"holds more than tensors \(pathlib.* weights_only=False"):
        load_funasr(path)


def test_a_converted_model_is_saved_and_loaded_as_one_of_ours(tmp_path: Path):
    path = saved(tmp_path, large())
    (tmp_path / "am.mvn").write_text(cmvn_text(28))
    out = tmp_path / "new" / "large.pt"
    text = convert_file(path, out)
    assert "sanm + sanm" in text
    assert str(out) in text
    ours, again = load_funasr(path).model, load_model(out, "cpu").model
    assert again.config == ours.config
    feats, lens = torch.randn(2, 20, 28), torch.tensor([20, 9])
    assert torch.equal(again.predict(feats, lens).logits, ours.predict(feats, lens).logits)
    (tmp_path / "file").write_text("")
    with pytest.raises(AsrError, match=r"x\.pt cannot be written"):
        convert_file(path, tmp_path / "file" / "x.pt")


@pytest.mark.parametrize("state", [large, aishell])
def test_every_name_of_both_types_is_known_and_others_are_not(state):
    assert all(is_known(name) for name in state())
    assert not is_known("encoder.encoders.0.rnn.weight")
    assert not is_known("encoder.encoders.x.norm1.weight")
