"""What losses can be told, where their temperature starts, and losses of one's own."""

from __future__ import annotations

import math
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import torch

from maquette.errors import UsageError
from maquette.tasks.image_text import losses
from maquette.tasks.image_text.losses import (
    LOSSES,
    PARAMETERS,
    PARTS,
    TEMPERATURE,
    add_loss,
    check_parameters,
    duplicates_warning,
    has_bias,
    logit_scale_range,
    loss_parts,
    pair_logits,
    start_of,
)
from maquette.tasks.image_text.similarity import make_similarity


@pytest.fixture(autouse=True)
def the_tables_are_as_before(monkeypatch):
    monkeypatch.setattr(losses, "LOSSES", LOSSES)
    before = dict(LOSSES), dict(PARAMETERS)
    yield
    for table, old in zip((LOSSES, PARAMETERS), before, strict=True):
        table.clear()
        table.update(old)


def problem(loss: str, **given: float) -> str:
    with pytest.raises(UsageError) as caught:
        check_parameters(loss, given)
    return str(caught.value)


def test_every_loss_has_its_parameters_and_a_start_and_nothing_else_has():
    assert set(PARAMETERS) == set(TEMPERATURE) == set(LOSSES)
    assert set(PARTS) < set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_the_listed_parameters_are_arguments_with_the_same_defaults(name):
    taken = signature(LOSSES[name]).parameters
    for key, parameter in PARAMETERS[name].items():
        if (name, key) != ("siglip", "bias"):  # without a value it means: no bias at all
            assert taken[key].default == parameter.default


@pytest.mark.parametrize(
    "parameter", [each for known in PARAMETERS.values() for each in known.values()]
)
def test_defaults_and_search_ranges_are_allowed(parameter):
    assert parameter.least <= parameter.low < parameter.high <= parameter.most
    assert parameter.least <= parameter.default <= parameter.most
    assert parameter.low > 0 or not parameter.log
    assert parameter.about


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_finite_at_both_ends_of_every_range(name):
    i, t = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    teacher = {}
    if name == "distillation":
        teacher = {"teacher_image_features": i, "teacher_text_features": t}
    for key, parameter in PARAMETERS[name].items():
        for value in (parameter.least, parameter.most):
            own = check_parameters(name, {key: value})
            assert own[key] == value
            parts = loss_parts(name, i, t, torch.tensor(2.0), **own, **teacher)
            assert all(part.isfinite() for part in parts.values())


def test_parameters_not_given_are_the_defaults():
    assert check_parameters("hn_nce", {"beta": 0.1}) == {"alpha": 1.0, "beta": 0.1}
    assert check_parameters("dcl", {}) == {}


def test_values_out_of_range_are_told_the_range_the_meaning_and_the_default():
    assert problem("hn_nce", beta=-1) == (
        "contrastive.parameters.beta is -1; the loss hn_nce takes 0 to 5 (how much more the hard "
        "negatives count; 0 is all alike). Its default is 0.25."
    )
    assert "label_smoothing is nan; the loss infonce takes 0 to 0.9" in problem(
        "infonce", label_smoothing=math.nan
    )


def test_unknown_parameters_and_losses_are_told_the_nearest():
    assert problem("triplet", margn=0.1) == (
        "contrastive.parameters.margn: the loss triplet has no such parameter. "
        "Did you mean 'margin'? It takes: margin, hardest."
    )
    assert problem("unicl", margin=0.1).endswith("has no such parameter. It takes none.")
    message = problem("infoNCE")
    assert message.startswith("contrastive.loss: Unknown loss 'infoNCE'. ")
    assert (
        "Available: cyclip, dcl, distillation, hn_nce, infonce, siglip, triplet, unicl." in message
    )
    assert 'add_loss("infoNCE", "package.module:function")' in message


def test_checking_does_not_import_torch():
    code = (
        "import sys\n"
        "from maquette.tasks.image_text import domains, loss_parameters\n"
        "domains.read_domain('medical')\n"
        "try:\n"
        "    loss_parameters.check_parameters('mine', {})\n"
        "except loss_parameters.UsageError as error:\n"
        "    print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Unknown loss 'mine'" in done.stdout


def test_the_documentation_has_the_same_numbers():
    text = (Path(__file__).parents[3] / "docs" / "losses.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for loss, known in PARAMETERS.items():
        assert any(row.startswith(f"| `{loss}` |") for row in rows), loss
        for name, each in known.items():
            assert (
                f"| `{loss}` | `{name}` | {each.default:g} | {each.least:g} to {each.most:g} "
                f"| {each.low:g} to {each.high:g} |"
            ) in rows


# The start of the temperature.


def test_starts_are_the_published_ones():
    assert start_of("infonce").logit_scale == pytest.approx(2.6593, abs=1e-4)
    assert start_of("infonce").logit_bias is None
    assert start_of("siglip").logit_scale == pytest.approx(math.log(10))
    assert start_of("siglip").logit_bias == -10
    assert start_of("siglip", parameters={"bias": -7.0}).logit_bias == -7
    assert [name for name in LOSSES if has_bias(name)] == ["siglip"]
    assert logit_scale_range() == (0, pytest.approx(4.6052, abs=1e-4))


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("similarity", ["dot", "euclidean", "bilinear"])
def test_with_features_of_a_new_clip_every_similarity_starts_with_the_same_logits(loss, similarity):
    width = 16
    i, t = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(0)).double()
    i, t = (width**0.5 * each / each.norm(dim=1, keepdim=True) for each in (i, t))

    def logits(name: str) -> torch.Tensor:
        start = start_of(loss, similarity=name, embed_dim=width)
        bias = None if start.logit_bias is None else torch.tensor(start.logit_bias)
        scale = torch.tensor(start.logit_scale).double()
        return pair_logits(i, t, scale, make_similarity(name, embed_dim=width), bias)

    expected = logits("cosine")
    found = logits(similarity)
    if loss == "infonce":  # a constant in all logits is no matter
        expected, found = expected - expected[0, 0], found - found[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_range_of_the_scale_moves_with_its_start():
    low, high = logit_scale_range("euclidean", embed_dim=128)
    start = start_of("infonce", similarity="euclidean", embed_dim=128).logit_scale
    assert low < start < high
    assert high - low == pytest.approx(math.log(100))
    assert start - low == pytest.approx(start_of("infonce").logit_scale)


# Losses of one's own.

MODULE = """
def mine(image_features, text_features, logit_scale, *, similarity, logit_bias=None, groups=None,
         sharpness=2.0):
    images, texts = similarity(image_features, text_features)
    return sharpness * (images - texts).square().sum(dim=1).mean()

def old_style(image_features, text_features):
    return 0

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_losses_of_a_test.py").write_text(MODULE)
    (tmp_path / "broken_losses_of_a_test.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_losses_of_a_test"
    sys.modules.pop("own_losses_of_a_test", None)


def adding(name: str, path: str) -> str:
    with pytest.raises(UsageError) as caught:
        add_loss(name, path)
    return str(caught.value)


def test_a_loss_of_ones_own_by_its_path(module):
    add_loss("mine", f"{module}:mine")
    own = check_parameters("mine", {"sharpness": 3.0})
    assert own == {"sharpness": 3.0}
    assert check_parameters("mine", {}) == {}, "its defaults are its own"
    i, t = torch.eye(3), torch.eye(3).roll(1, dims=0)
    parts = loss_parts("mine", i, t, torch.tensor(1.0), **own)
    assert {name: part.item() for name, part in parts.items()} == {"mine": 6.0}
    assert start_of("mine") == start_of("infonce")
    assert not has_bias("mine")
    assert "has no such parameter. Did you mean 'sharpness'? It takes: sharpness." in problem(
        "mine", sharpnes=1.0
    )
    assert problem("mine", sharpness=math.inf) == (
        "contrastive.parameters.sharpness is inf; give a finite number."
    )
    assert "Available: cyclip" in problem("other")
    assert "mine" in problem("other")


def test_a_loss_of_ones_own_with_ranges(module):
    ranges = {
        "sharpness": losses.Parameter(
            default=2.0, low=1.0, high=4.0, least=0.0, most=10.0, about="how sharp"
        )
    }
    add_loss("mine", f"{module}:mine", ranges)
    assert check_parameters("mine", {}) == {"sharpness": 2.0}
    assert "the loss mine takes 0 to 10 (how sharp)" in problem("mine", sharpness=11)


def test_a_loss_of_ones_own_is_one_line_in_the_table():
    def mine(image_features, text_features, logit_scale, *, weight=1.0, **shared):
        return weight * (image_features * text_features).sum().abs()

    LOSSES["mine"] = mine
    assert check_parameters("mine", {"weight": 2.0}) == {"weight": 2.0}
    i = torch.ones(2, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss_parts("mine", i, i, torch.tensor(1.0), weight=2.0)
    assert parts["mine"].dtype == torch.float32
    assert parts["mine"].item() == 12


def test_paths_that_name_no_loss_are_explained(module):
    assert adding("infonce", f"{module}:mine") == (
        "There is a loss 'infonce' already; choose another name for own_losses_of_a_test:mine."
    )
    for path in ("own_losses", "own_losses:", ":mine"):
        assert adding("mine", path) == (
            f"{path!r} does not name a loss; write package.module:function."
        )
    assert adding("mine", "no_such_module_of_a_test:mine") == (
        "Could not import 'no_such_module_of_a_test' for the loss no_such_module_of_a_test:mine: "
        "No module named 'no_such_module_of_a_test'. Run from the folder that holds it, or install "
        "it."
    )
    assert "No module named 'not_installed_anywhere'" in adding(
        "mine", "broken_losses_of_a_test:mine"
    )
    assert adding("mine", f"{module}:mime") == (
        f"{module} has no function 'mime'. Did you mean 'mine'?"
    )
    assert "has no function 'number'" in adding("mine", f"{module}:number")
    message = adding("mine", f"{module}:old_style")
    assert message.startswith(f"{module}:old_style cannot be called as a loss: ")
    assert (
        "(image_features, text_features, logit_scale, *, similarity, logit_bias, groups)" in message
    )
    assert "mine" not in LOSSES


# Repeated captions.


def test_repeated_captions_are_named_with_the_loss_that_knows_them():
    assert duplicates_warning("infonce", num_duplicates=37, num_texts=100) == (
        "37 % of the captions (37 of 100) repeat that of another image. The loss infonce pushes "
        "such a pair apart although it matches; contrastive.loss: unicl counts it as a match."
    )
    rare = duplicates_warning("siglip", num_duplicates=3, num_texts=1000)
    assert rare is not None
    assert rare.startswith("Less than 1 % of the captions (3 of 1000) repeat")
    assert duplicates_warning("unicl", num_duplicates=37, num_texts=100) is None
    assert duplicates_warning("infonce", num_duplicates=0, num_texts=100) is None
