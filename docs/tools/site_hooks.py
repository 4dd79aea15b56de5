"""Hooks of the documentation site: pages that lie elsewhere in the checkout, and the notebook.

Links in the guides are those of the checkout (``../stac_extension/README.md``), so that they work
where the files are read. The site takes the same files under the same names, without the ``../``.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("stac_extension", "udf", "docker", "catalog")
"""Folders of the checkout that the site holds whole."""
PAGES = ("CHANGELOG.md", "CITATION.cff", "THIRD_PARTY_NOTICES.md", "LICENSE", "CONTRIBUTING.md")
NOTEBOOK = "notebooks/first_mask"
_SKIPPED = ("__pycache__", ".git")
_CONSOLE = re.compile(r"^```console\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()((?:\.\./)+)([^)\s]+)(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of ``FOLDERS`` and ``PAGES``, and the notebook as a page with pictures."""
    found = [ROOT / name for name in PAGES]
    for folder in FOLDERS:
        found += sorted(path for path in (ROOT / folder).rglob("*") if path.is_file())
    for path in found:
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and not any(part in _SKIPPED for part in path.parts):
            files.append(File.generated(config, name, abs_src_path=str(path)))
    notebook = ROOT / "docs" / f"{NOTEBOOK}.ipynb"
    text, pictures = render_notebook(json.loads(notebook.read_text(encoding="utf-8")))
    files.append(File.generated(config, f"{NOTEBOOK}.md", content=text))
    for name, content in pictures.items():
        files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of ``docs/`` into links within the site."""
    del config, files
    depth = page.file.src_uri.count("/")
    generated = page.file.generated_by is not None and not page.file.src_uri.startswith("notebooks")

    def inside(match: re.Match[str]) -> str:
        ups, target = match.group(2).count("../"), match.group(3)
        if generated:  # read from the checkout's own folder: ../docs/x is x here
            target = target.removeprefix("docs/") if ups == depth else target
        elif ups > depth:
            ups -= 1
        return f"{match.group(1)}{'../' * ups}{target}{match.group(4)}"

    text = _LINK.sub(inside, drop_prompts(markdown))
    return re.sub(r"(\]\()docs/", r"\1", text) if generated and depth == 0 else text


def drop_prompts(markdown: str) -> str:
    """Return the text with commands without prompts, so that the copy button copies commands.

    What a command prints becomes a block of its own.
    """

    def split(match: re.Match[str]) -> str:
        blocks: list[tuple[str, list[str]]] = []
        for line in match[1].splitlines():
            kind = "sh" if line.startswith("$ ") else "text"
            if kind == "text" and blocks and blocks[-1][1][-1].endswith("\\"):
                kind = "sh"  # the command goes on
            if not blocks or blocks[-1][0] != kind:
                blocks.append((kind, []))
            blocks[-1][1].append(line.removeprefix("$ "))
        return "\n\n".join("\n".join((f"```{kind}", *lines, "```")) for kind, lines in blocks)

    return _CONSOLE.sub(split, markdown)


def render_notebook(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [_render_output(output, pictures) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def _render_output(output: dict[str, Any], pictures: dict[str, bytes]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        name = f"first_mask_{len(pictures) + 1}.png"
        pictures[name] = base64.b64decode(data["image/png"])
        return f"![Output {len(pictures)} of the notebook]({name})"
    text = "".join(output.get("text", data.get("text/plain", "")))
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
