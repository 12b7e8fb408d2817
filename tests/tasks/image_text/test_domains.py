"""Domain templates: the shipped ones hold what they promise, and mistakes in one's own are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from maquette.errors import UsageError
from maquette.tasks.image_text.domains import FOLDER, domain_names, fill, read_domain
from maquette.tasks.image_text.loss_parameters import check_parameters

OWN = """\
name: weld
about: weld seams
prompts:
  - a weld seam with {}.
augmentation:
  horizontal_flip: true
loss:
  name: hn_nce
  parameters: {beta: 0.3}
  ranges:
    beta: {low: 0.1, high: 0.4}
  why: seams look alike
metrics: [mean_recall]
pitfalls: []
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_domain(text: str) -> str:
        path = tmp_path / "weld.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_domain


def problem(source: str) -> str:
    with pytest.raises(UsageError) as caught:
        read_domain(source)
    return str(caught.value)


def test_the_shipped_domains():
    assert domain_names() == ("general", "industrial", "medical", "scientific")


@pytest.mark.parametrize("name", domain_names())
def test_a_shipped_domain_is_whole(name):
    domain = read_domain(name)
    assert domain.name == name
    assert len(set(domain.prompts)) == len(domain.prompts) >= 5
    check_parameters(domain.loss.name, domain.loss.parameters)
    assert domain.loss.why
    assert domain.metrics[0] == "mean_recall"
    assert domain.pitfalls
    for modality, prompts in domain.modalities.items():
        assert read_domain(f"{name}:{modality}").prompts == prompts
        assert read_domain(f"{name}:{modality}").loss == domain.loss


def test_sides_are_never_mirrored_where_they_matter():
    for name in ("general", "medical", "scientific"):
        augmentation = read_domain(name).augmentation
        assert not augmentation.horizontal_flip
        assert not augmentation.vertical_flip
    assert read_domain("medical").augmentation.saturation == 0, "the stain is a finding"
    assert read_domain("medical").augmentation.erase == 0


def test_the_inspection_prompts_have_the_published_numbers():
    states = read_domain("industrial").states["inspection"]
    normal = states.prompts("normal", "metal_nut")
    anomalous = states.prompts("anomalous", "metal_nut")
    assert (len(set(normal)), len(set(anomalous))) == (154, 88)
    assert "a photo of a flawless metal nut." in normal
    assert "a cropped photo of the metal nut with defect." in anomalous
    assert not set(normal) & set(anomalous)


def test_findings_are_present_or_absent():
    presence = read_domain("medical").states["presence"]
    assert "chest x-ray showing pneumonia" in presence.prompts("present", "pneumonia")
    assert "no pneumonia" in presence.prompts("absent", "pneumonia")
    with pytest.raises(UsageError, match=r"Unknown state 'absend'. Did you mean 'absent'\?"):
        presence.prompts("absend", "pneumonia")


def test_names_are_put_into_prompts_as_words():
    assert fill("a photo of {}.", "pin-hole_defect") == "a photo of pin-hole defect."
    assert fill("a photo of {}.", "{odd}") == "a photo of {odd}."


def test_a_domain_of_ones_own_is_one_file(write):
    domain = read_domain(write(OWN))
    assert domain.prompts == ("a weld seam with {}.",)
    assert domain.augmentation.horizontal_flip
    assert domain.loss.parameters == {"beta": 0.3}
    assert domain.loss.ranges["beta"].high == 0.4


def test_a_domain_put_beside_the_shipped_ones_is_found_by_its_name(write, tmp_path, monkeypatch):
    write(OWN)
    monkeypatch.setattr("maquette.tasks.image_text.domains.FOLDER", tmp_path)
    assert domain_names() == ("weld",)
    assert read_domain("weld").about == "weld seams"


def test_unknown_names_are_told_the_nearest():
    assert problem("medicine") == (
        "data.image_text.domain: Unknown domain 'medicine'. Did you mean 'medical'? Available: "
        "general, industrial, medical, scientific. A domain of your own is the path of a file like "
        "theirs, ending in .yaml."
    )
    assert problem("medical:radiologie") == (
        "data.image_text.domain: Unknown modality of medical 'radiologie'. Did you mean "
        "'radiology'? Available: anatomy, ct, histology, radiology."
    )


def test_files_that_cannot_be_read_are_told_why(tmp_path, write):
    missing = str(tmp_path / "none.yaml")
    assert problem(missing).startswith(f"data.image_text.domain: could not read {missing}: ")
    assert problem(missing).endswith("Shipped domains: general, industrial, medical, scientific.")
    assert "could not read" in problem(str(tmp_path) + "/"), "a folder"
    path = write("prompts: [a, b\nname: x")
    assert problem(path).startswith(f"{path}:2: not valid YAML: ")
    path = write("a: \x00")
    assert problem(path).startswith(f"{path}:1: not valid YAML: ")
    path = write("- a list")
    assert problem(path) == (
        f"{path}:1: a domain is a mapping with the keys name, about, prompts, modalities, states, "
        "augmentation, text_augmentation, loss, metrics, pitfalls."
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "about: weld seams",
            "abuot: weld seams",
            ":2: unknown key 'abuot'. Did you mean 'about'? Allowed here: name, about, prompts",
        ),
        ("about: weld seams\n", "", ":1: the key 'about' is missing; please give it."),
        (
            "horizontal_flip: true",
            "horizontal_flips: true",
            ":6: unknown key 'augmentation.horizontal_flips'. Did you mean 'horizontal_flip'?",
        ),
        ("horizontal_flip: true", "erase: 3", ":6: augmentation.erase is 3; input should be less"),
        (
            "seam with {}.",
            "seam.",
            ":4: prompts.0: 'a weld seam.' needs {} once, where the name of the class goes.",
        ),
        ("seam with {}.", "{} with {}.", ":4: prompts.0: 'a weld {} with {}.' needs {} once"),
        ("{beta: 0.3}", "{beta: 9}", ":7: loss: contrastive.parameters.beta is 9; the loss hn_nce"),
        ("high: 0.4", "high: 40", ":7: loss: contrastive.parameters.beta is 40; the loss hn_nce"),
        ("low: 0.1", "low: 0.5", ":11: loss.ranges.beta: low 0.5 must be below high 0.4."),
        ("low: 0.1", "lou: 0.1", ":11: unknown key 'loss.ranges.beta.lou'. Did you mean 'low'?"),
        ("name: hn_nce", "name: nce", ":7: loss: contrastive.loss: Unknown loss 'nce'."),
        ("why: seams", "wy: seams", ":12: unknown key 'loss.wy'. Did you mean 'why'?"),
        ("[mean_recall]", "[recall]", ":13: metrics.0 is 'recall'; input should be 'mean_recall'"),
        ("[mean_recall]", "[]", ":13: metrics: give at least one."),
        (
            "pitfalls: []",
            "pitfalls: []\nstates: {a: {about: b, states: {c: ['{}']}, frame: 1}}",
            ":15: unknown key 'states.a.frame'. Did you mean 'frames'?",
        ),
    ],
)
def test_mistakes_are_told_with_file_line_and_key(write, old, new, expected):
    assert old in OWN
    path = write(OWN.replace(old, new))
    assert f"{path}{expected}" in problem(path)


def test_all_mistakes_are_told_at_once(write):
    path = write(OWN.replace("name: weld\n", "").replace("[mean_recall]", "[recall]"))
    assert len(problem(path).splitlines()) == 2


def test_the_files_are_part_of_the_package():
    assert FOLDER.is_dir()
    assert FOLDER.parent == Path(read_domain.__code__.co_filename).parent


DOCUMENT = Path(__file__).parents[3] / "docs" / "losses.md"


def test_the_documentation_lists_the_domains_and_its_example_is_one(write):
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in domain_names():
        domain = read_domain(name)
        mirrored = "yes" if domain.augmentation.horizontal_flip else "n"
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| `{domain.loss.name}` | {mirrored}" in row
    example = text[text.index("name: weld") : text.rindex("```")]
    assert read_domain(write(example)).metrics == ("mean_recall", "balanced_accuracy")
    for shown in re.findall(r"`(\w+:\w+)`", text):
        assert read_domain(shown).prompts
