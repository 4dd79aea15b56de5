"""The documentation holds what it says: snippets run, commands exist, links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import openeo
import pytest
import typer
from openeo.internal.graph_building import PGNode

import openeo_cloudmask as cm
from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import PUBLISHED
from openeo_cloudmask.evaluation.labelled import LabelledScene

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "udf/*.md", "stac_extension/*.md", "docker/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_mask.ipynb"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fences(path: Path, *languages: str) -> list[str]:
    return [
        code
        for language, code in _FENCE.findall(path.read_text(encoding="utf-8"))
        if language in languages
    ]


def prose(path: Path) -> str:
    """Return the text without code, quoted or not, names of modules and targets of links."""
    text = re.sub(
        r"^```.*?^```|^::: .*?$",
        "",
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"<!--.*?-->", "", re.sub(r"`[^`]*`", "", text), flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"https?://\S+", "", text))


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current():
    for name, text in load_script("docs/tools/generate.py").build_pages().items():
        current = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert current == text, f"{name} is stale: python docs/tools/generate.py"


# --- snippets -----------------------------------------------------------------------------------


class Account:
    """Stands for a connection with an account: graphs are built as ever, nothing is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.stored: dict[str, dict[str, Any]] = {}

    def authenticate_oidc(self) -> Account:
        return self

    def authenticate_basic(self, _name: str, _password: str) -> Account:
        return self

    def take(self) -> Callable[..., Mock]:
        """Return a method of cubes that takes jobs as they would be sent, and does no more."""

        def send(cube: openeo.DataCube, *_path: str, **options: Any) -> Mock:
            graph = cube.flat_graph()
            names = {node["process_id"] for node in graph.values()}
            assert names & {"apply_neighborhood", "cloud_mask"}
            self.sent.append({"graph": graph, **options})
            return Mock()

        return send

    def load_collection(self, name: str, **arguments: Any) -> openeo.DataCube:
        return openeo.DataCube.load_collection(
            name, connection=None, fetch_metadata=False, **arguments
        )

    def save_user_defined_process(
        self, name: str, graph: dict[str, Any], *, parameters: list[dict[str, Any]]
    ) -> None:
        self.stored[name] = {item["name"]: item for item in parameters}
        assert any(node["process_id"] == "apply_neighborhood" for node in graph.values())

    def datacube_from_process(self, name: str, **arguments: Any) -> openeo.DataCube:
        assert set(arguments) <= set(self.stored[name]), "the process has no such parameter"
        return openeo.DataCube(graph=PGNode(name, arguments=arguments), connection=None)


SCENE_SETUP = """
from pathlib import Path
from openeo_cloudmask.simulator.products import write_geotiff
from openeo_cloudmask.simulator.scene import simulate_scene

write_geotiff(simulate_scene(3, size=96), Path("scene.tif"))
"""
CATALOG_SETUP = f"""{SCENE_SETUP}
from openeo_cloudmask.options import MaskOptions
from openeo_cloudmask.products import mask_product

mask_product(Path("scene.tif"), Path("mask.tif"), MaskOptions(model="hollstein"))
"""
SETUP = {
    "docs/openeo.md": SCENE_SETUP,
    "docs/stac.md": CATALOG_SETUP,
}
"""Page -> what its snippets take for granted: the reader's own data, made here."""
LOCAL_SERVER = "http://localhost:8080/stac/"


@pytest.fixture
def stac_server() -> Iterator[str]:
    """Serve the STAC API as the back end does; yields its address."""
    uvicorn = pytest.importorskip("uvicorn")
    from fastapi import FastAPI

    from openeo_cloudmask.stac.api import mount_stac_app

    app = FastAPI()
    mount_stac_app(app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/stac/"
    server.should_exit = True
    thread.join(20)


@pytest.mark.parametrize("page", [path for path in PAGES if fences(path, "python")], ids=name_of)
def test_snippets_run(page, tmp_path, monkeypatch, request, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog").symlink_to(ROOT / "catalog")
    shutil.copy(ROOT / "udf" / "cloud_mask.json", tmp_path)
    for text in fences(page, "yaml"):
        if text.startswith("id: "):
            (tmp_path / f"{text.split()[1]}.yaml").write_text(text, encoding="utf-8")
    account = Account()
    monkeypatch.setattr(openeo, "connect", lambda *_args, **_kwargs: account)
    for name in ("execute_batch", "create_job"):
        monkeypatch.setattr(openeo.DataCube, name, account.take())
    space: dict[str, Any] = {"__name__": "snippet"}
    exec(SETUP.get(name_of(page), ""), space)
    for number, code in enumerate(fences(page, "python"), start=1):
        if LOCAL_SERVER in code:
            code = code.replace(LOCAL_SERVER, request.getfixturevalue("stac_server"))  # noqa: PLW2901
        exec(compile(code, f"{name_of(page)}, snippet {number}", "exec"), space)
    whole = "\n".join(fences(page, "python"))
    if re.search(r"connect\(\s*\"https:", whole):
        text = page.read_text(encoding="utf-8")
        assert re.search(r"needs?\s+an\s+account", text), "say that an account is needed"
        for job in account.sent:
            assert job["job_options"]["udf-dependency-archives"]
    assert len(account.sent) == len(re.findall(r"\.(?:execute_batch|create_job)\(", whole))
    # A block of plain text after a snippet is its output.
    printed = capsys.readouterr().out
    for output in re.findall(
        r"^```python\n(?:(?!^```).)*^```\n\n```text\n(.*?)^```",
        page.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    ):
        assert _near(output, printed), f"printed is:\n{printed}"


def _near(shown: str, printed: str) -> bool:
    """Whether ``shown`` ends ``printed``; percentages to half a point, as hardware differs."""
    words, others = shown.split(), printed.split()[-len(shown.split()) :]
    return len(words) == len(others) and all(
        abs(float(one[:-1]) - float(other[:-1])) <= 0.5
        if re.fullmatch(r"[\d.]+%", one) and re.fullmatch(r"[\d.]+%", other)
        else one == other
        for one, other in zip(words, others, strict=True)
    )


@pytest.mark.slow
def test_notebook_runs_and_says_what_it_shows(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    again = tmp_path / "again.ipynb"
    script = ROOT / "docs" / "tools" / "run_notebook.py"
    done = subprocess.run(
        [sys.executable, str(script), str(NOTEBOOK), str(again)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shown, new = (json.loads(path.read_text("utf-8"))["cells"] for path in (NOTEBOOK, again))
    texts, again = ([text for cell in cells for text in _texts(cell)] for cells in (shown, new))
    assert len(texts) >= 5
    # Figures to a few in the last digit shown, as hardware differs.
    for text, now in zip(texts, again, strict=True):
        assert _FIGURE.sub("#", text) == _FIGURE.sub("#", now)
        for one, other in zip(_FIGURE.findall(text), _FIGURE.findall(now), strict=True):
            assert float(other) == pytest.approx(float(one), abs=0.03 if "." in one else 0)
    pictures = [output for cell in shown for output in cell.get("outputs", []) if "data" in output]
    assert any("image/png" in output["data"] for output in pictures)


_FIGURE = re.compile(r"\d+(?:\.\d+)?")


def _texts(cell: dict[str, Any]) -> list[str]:
    return ["".join(output["text"]) for output in cell.get("outputs", []) if "text" in output]


def test_what_is_copied_is_a_command():
    hook = load_script("docs/tools/site_hooks.py").drop_prompts
    plain = "```console\n$ pip install .\n$ cloudmask models\n```"
    assert hook(plain) == "```sh\npip install .\ncloudmask models\n```"
    shown = "```console\n$ cloudmask --version\n1.0\n```"
    assert hook(shown) == "```sh\ncloudmask --version\n```\n\n```text\n1.0\n```"
    for page in PAGES:
        text = hook(page.read_text(encoding="utf-8"))
        for block in re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            assert not re.search(r"^\$ ", block, re.MULTILINE), name_of(page)


def test_returns_are_prose():
    """The reference takes what stands before a colon for a type, in the first sentence too."""
    for name in cm.__all__:
        found = re.search(
            r"\n *Returns:\n *(.+?)(?:\n\n|$)", getattr(cm, name).__doc__ or "", re.DOTALL
        )
        assert found is None or ": " not in " ".join(found[1].split()), name


# --- pictures -----------------------------------------------------------------------------------


def test_real_scenes_are_shown_with_their_source(monkeypatch):
    script = load_script("docs/tools/real_pictures.py")
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for name in script.PICTURES:
        size = (ROOT / "docs" / "images" / name).stat().st_size
        assert 10_000 < size < 250_000, name
        shown = [text for text in texts.values() if f"images/{name})" in text]
        assert shown, name
        for text in shown:
            assert re.search(r"USGS L8\s+Biome.*public domain", text, re.DOTALL), name
    scene = cm.simulate(3, size=64)
    labelled = LabelledScene(
        name="any_1", sensor="sentinel-2-l1c", bands=scene.band_names, cube=scene.cube,
        label=scene.truth, pixel_m=10, shadow_labelled=True, thin_labelled=True,
    )  # fmt: skip
    monkeypatch.setattr(script, "OTHER", "hollstein")
    row = script.draw_row(labelled, "Title", None)
    assert script.stack([row, row]).size == (script.WIDTH_PX, 2 * row.height)


# --- commands -----------------------------------------------------------------------------------

_COMMAND = re.compile(r"(?<![\w/.-])cloudmask ((?:[\w-]+ ?)+)?([^`\n|;&#]*)")


def _written_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = fences(page, "console", "sh", "bash", "shell")
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`(cloudmask [^`\n]+)`", text)
        for line in lines:
            stripped = line.removeprefix("$ ").strip()
            if re.match(r"(\S*/)?cloudmask\s", stripped):
                yield name_of(page), re.split(r"\s[#|]|&&", stripped)[0]


def test_written_commands_exist():
    root: Any = typer.main.get_command(build_app())
    seen = 0
    for page, line in _written_commands():
        words = line.split()[1:]
        command, path = root, "cloudmask"
        while words and words[0] in getattr(command, "commands", {}):
            path += f" {words[0]}"
            command = command.commands[words.pop(0)]
        known = {"--help", "--version"}
        for item in command.params:
            known |= {*item.opts, *item.secondary_opts}
        if hasattr(command, "commands") and not command.invoke_without_command:
            placeholder = not words or not words[0].islower() or words[0].startswith("-")
            assert placeholder, f"{page}: no command {words[0]!r} in {path!r}: {line}"
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{page}: {path} has no {word}: {line}"
        seen += 1
    assert seen > 30


# --- links --------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", plain))
    return found


def links(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text))


def test_install_lines_say_where_the_package_is():
    """A page that names a package no registry has sends its reader into a dead end."""
    wrong = r'pip install "?\.\[' if PUBLISHED else r"pip install .*openeo-cloudmask(?!\S*whl)"
    found = [
        f"{name_of(page)}: {line}"
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(wrong, line)
    ]
    assert found == []


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=name_of)
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "mailto:")), f"{link} is not https"
            assert " " not in link
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        # The notebook becomes a page of the site under its own name.
        if not path.exists() and path.with_suffix(".ipynb") == NOTEBOOK:
            continue
        assert path.exists(), f"{link} leads nowhere"
        assert path.is_relative_to(ROOT), f"{link} leads out of the checkout"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{link}: no such heading"


def test_links_of_the_catalog_lead_somewhere():
    checked = 0
    for folder in ("catalog", "stac_extension/examples"):
        for path in (ROOT / folder).rglob("*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            if "stac_version" not in content:
                continue
            hrefs = [item["href"] for item in content.get("links", [])]
            hrefs += [item["href"] for item in content.get("assets", {}).values()]
            for href in hrefs:
                if re.match(r"[a-z]+:", href):
                    assert href.startswith(("https://", "urn:")), f"{path}: {href}"
                elif folder == "catalog":
                    assert (path.parent / href).exists(), f"{path}: {href} leads nowhere"
                    checked += 1
    assert checked > 50


# --- words --------------------------------------------------------------------------------------

SPELLING = {
    r"(?<![:\w.])(OpenEO|OPENEO|openeo)\b(?!-)": "openEO",
    r"\bdata[ -]cubes?\b": "datacube",
    r"\bnodata\b": "no-data",
    r"\bSentinel 2\b": "Sentinel-2",
    r"\bLandsat-\d": "Landsat 8",
    r"\bback-ends?\b|\b[Bb]ackends?\b": "back end",
    r"\bco-registr": "coregistr",
    r"\bGeoTiff\b|\bGeotiff\b": "GeoTIFF",
    r"\bcloudmask(s|ing)\b": "cloud mask",
    r"\blicense\b": "licence",
}
"""What the field's terms are not called here, and what they are."""


@pytest.mark.parametrize(
    "page", [path for path in PAGES if path.name != "THIRD_PARTY_NOTICES.md"], ids=name_of
)
def test_terms_are_spelt_one_way(page):
    # Titles of papers are spelt as their authors spelt them.
    text = re.sub(r"^\| citation \|.*$", "", prose(page), flags=re.MULTILINE)
    for pattern, right in SPELLING.items():
        found = re.search(pattern, text)
        assert found is None, f"{found.group(0)!r}: write {right!r}" if found else ""
