"""Pages of the site that lie beside docs/, so that they are where a reader of the checkout looks.

In the checkout docs/serving.md links to ../API.md and ARCHITECTURE.md to docs/recipe.md; on the
site all of them are in one folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

BESIDE = ("API.md", "ARCHITECTURE.md", "CONTRIBUTING.md")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages of the repository's root."""
    root = Path(config.config_file_path).parent
    for name in BESIDE:
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links between docs/ and the root at the one folder of the site."""
    beside = "|".join(map(re.escape, BESIDE))
    markdown = re.sub(rf"\]\(\.\./({beside})", r"](\1", markdown)
    return re.sub(r"\]\(docs/", "](", markdown)
