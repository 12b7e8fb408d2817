"""requirements.txt: everything pinned, every import provided; prints and debuggers left behind."""

from __future__ import annotations

import pytest
from check_cases import FILES, findings, where

LIST = "project/requirements.txt"
LOADER = "project/data/loader.py"
LAST = FILES[LIST].count("\n") + 1

LINES = {
    "scipy": (
        "'scipy' is not pinned: another day brings another version. Write `scipy==1.",
        "Nothing in the project imports scipy. Delete the line, unless another package needs just "
        "this version.",
    ),
    "no_such_package>=2,<3": ("Write `no_such_package==1.2.3`, with the version that you ran.", ""),
    "torch==2.8.0": ("torch is named twice; line 2 has it too. Delete one of the lines.", None),
    "torch = 2": (
        "'torch = 2' is not a requirement: Expected semicolon (after name with no version "
        "specifier) or end. Write one package per line: `name==1.2.3`.",
        None,
    ),
    "../repos/tabm": ("'../repos/tabm' is not a requirement", None),
    "-e ../repos/tabm": (
        "'-e ../repos/tabm' installs a folder, not a released package. Name a package with its "
        "version, or write the code inside project/.",
        None,
    ),
    "-r more.txt": (
        "'-r more.txt' reads another file, which is not checked. Write all requirements in this "
        "file.",
        None,
    ),
    "tabm @ https://example.org/tabm.zip": ("is not pinned: another day brings another", ""),
}


@pytest.mark.parametrize("line", LINES)
def test_bad_requirements(line, tmp_path):
    message, note = LINES[line]
    found = findings(tmp_path, {LIST: FILES[LIST] + line})

    assert {(f.rule, f.path, f.line) for f in found} == {("requirements", LIST, LAST)}
    assert len(found) == (1 if note is None else 2)
    assert any(message in str(f) for f in found if not f.note)
    assert note is None or any(note in str(f) for f in found if f.note)


def test_good_requirements(tmp_path):
    text = f"""--extra-index-url https://example.org/cpu
{FILES[LIST]}
torch_geometric \\
    --hash=sha256:{"a" * 64} \\
    ==2.6.1 ; python_version < "4"  # graphs
torch-geometric===2.6.0; python_version >= "4"
tabm @ https://example.org/tabm.whl#sha256={"0" * 64}
tabr @ git+https://example.org/tabr@{"1" * 40}
types-PyYAML==6.0
"""
    use = f"{FILES[LOADER]}\n\nimport torch_geometric, tabm, tabr\n"

    assert findings(tmp_path, {LIST: text, LOADER: use}) == ()


def test_a_list_of_another_encoding(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.txt").write_bytes("torch==2.8.0".encode("utf-16"))
    (found,) = findings(tmp_path, {LIST: None})

    assert str(found) == (
        "project/requirements.txt: This file is not UTF-8 text. Save it as UTF-8. [requirements]"
    )


IMPORTS = {
    "import sklearn.svm": (
        "sklearn is imported, but requirements.txt does not name it. Add the line "
        "`scikit-learn==1.",
    ),
    "from no_such import thing": ("Add the line `no_such==1.2.3`, with the version that you ran.",),
    "import tabm": ("It is code of repos/: write what you need of it anew inside project/.",),
    "from model.three_heads import X": (
        "model.three_heads is imported, but there is no model/three_heads.py in the project. "
        "Write it, or correct the name.",
    ),
    "from .missing import X": ("data.missing is imported, but there is no data/missing.py",),
    "import PIL, PIL.Image": ("PIL is imported, but requirements.txt does not name it.",),
    "import model.two_heads, os.path, torch.nn": (),
    "from . import loader": (),
    "try:\n    import cupy\nexcept (ImportError, OSError):\n    cupy = None": (),
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cupy": (),
}


@pytest.mark.parametrize("line", IMPORTS)
def test_imports_resolve(line, tmp_path):
    texts = {LOADER: f"{FILES[LOADER]}\n\n{line}\n", "repos/tabm/tabm/__init__.py": ""}
    found = findings(tmp_path, texts)

    assert where(found) == [("requirements", LOADER, 14)] * len(IMPORTS[line])
    for finding, text in zip(found, IMPORTS[line], strict=True):
        assert text in str(finding)


def test_tests_may_import_what_lies_beside_them(tmp_path):
    test = f"import cases\n{FILES['project/tests/test_accuracy.py']}"
    texts = {"project/tests/test_accuracy.py": test, "project/tests/cases.py": ""}

    assert findings(tmp_path / "a", texts) == ()
    (found,) = findings(tmp_path / "b", {**texts, LOADER: f"{FILES[LOADER]}import cases\n"})
    assert "cases is imported, but requirements.txt does not name it." in found.message


DELETE = "Delete it, or say it with the logging module. [debugging]"
LEFT = {
    "print(x.shape)": f"A debugging print is left here: it shows the shape of x. {DELETE}",
    "print(f'x {x.dtype} here')": "it shows the dtype of x.",
    "print('size', x.size())": "it shows x.size().",
    "print('got', type(x))": "it shows type(x).",
    "print(f'{x=}')": "it shows a variable with its name ({x=}).",
    "print(f'{x = :.3f}', flush=True)": "it shows a variable with its name ({x=}).",
    "print(x)": "it shows a bare value, x.",
    "print(x.y, x[0])": "it shows a bare value, x.y.",
    "print('--- here!')": "it shows a bare word, '--- here!'.",
    "from pprint import pprint; pprint(x)": "it shows a bare value, x.",
    "breakpoint()": "A breakpoint is left here. Delete the line. [debugging]",
    "import pdb; pdb.set_trace()": "A breakpoint is left here.",
    "from ipdb import set_trace": "This imports the debugger ipdb. Delete the line. [debugging]",
    "import IPython; IPython.embed()": "A breakpoint is left here.",
    "torch.autograd.set_detect_anomaly(True)": (
        "Anomaly detection is on, which makes every backward pass slow. Delete the line."
    ),
    "with torch.autograd.detect_anomaly(): pass": "Anomaly detection is on",
    "torch.autograd.set_detect_anomaly(mode=False)": None,
    "print(f'loss={x:.4f}, {torch.pi} {{x=}}')": None,
    "print('epoch', x)": None,
    "print()": None,
    "print('Training is done')": None,
    "print('Done.')": None,
    "import sys; print(x, file=sys.stderr)": None,
    "print(max(x))": None,
}


@pytest.mark.parametrize("line", LEFT)
def test_what_debugging_leaves(line, tmp_path):
    packages = f"{FILES[LIST]}ipdb==0.13.13\nipython==9.0\n"
    text = f"{FILES[LOADER]}\n\ndef show(x):\n    {line}\n"
    found = [f for f in findings(tmp_path, {LOADER: text, LIST: packages}) if not f.note]

    if LEFT[line] is None:
        assert found == []
    else:
        assert where(tuple(found)) == [("debugging", LOADER, 15)]
        assert LEFT[line] in str(found[0])


def test_run_and_tests_may_print_but_not_stop(tmp_path):
    test = FILES["project/tests/test_accuracy.py"] + "    print(metrics)\n    breakpoint()\n"
    run = FILES["project/run.py"].replace("    main()", "    main()\n    breakpoint()")
    found = findings(tmp_path, {"project/tests/test_accuracy.py": test, "project/run.py": run})

    assert where(found) == [
        ("debugging", "project/run.py", run.count("\n")),
        ("debugging", "project/tests/test_accuracy.py", test.count("\n")),
    ]
