"""Write the pages that follow from the code: ``docs/cli.md`` and ``docs/models.md``.

python docs/tools/generate.py            # write them
python docs/tools/generate.py --check    # exit status 1 where one is not current
"""

from __future__ import annotations

import enum
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openeo_cloudmask.publish import publish_text

DOCS = Path(__file__).resolve().parents[1]
_NOTE = "<!-- Written by docs/tools/generate.py; do not edit. -->\n"


def main() -> int:
    """Write or check the pages; the exit status."""
    stale = []
    for name, text in build_pages().items():
        path = DOCS / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv[1:]:
            publish_text(path, text)
    if stale and "--check" in sys.argv[1:]:
        print(f"not current: {', '.join(stale)}; run python docs/tools/generate.py")
        return 1
    return 0


def build_pages() -> dict[str, str]:
    """Return the pages by name."""
    return {"cli.md": build_cli(), "models.md": build_models()}


def build_cli() -> str:
    """Return the page of all commands and their parameters."""
    import typer

    from openeo_cloudmask.cli import build_app

    root = typer.main.get_command(build_app())
    commands = list(_commands(root, "cloudmask"))
    lines = [
        _NOTE,
        "# Commands\n",
        (
            "`cloudmask --version` prints the version, `cloudmask COMMAND --help` what stands "
            "here. A command that is given something it cannot work with says in one sentence "
            "what was given, what was expected and what to do, and ends with status 2.\n"
        ),
        "| command | does |",
        "|---|---|",
    ]
    for name, command in commands:
        anchor = name.replace(" ", "-")
        lines.append(f"| [`{name}`](#{anchor}) | {_first_sentence(command.help or '')} |")
    for name, command in commands:
        lines += ["", f"## {name}\n", *_describe(command)]
    return "\n".join(lines) + "\n"


def _commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    for key, command in group.commands.items():
        label = f"{name} {key}"
        if not hasattr(command, "commands"):
            yield label, command
            continue
        if command.invoke_without_command:
            yield label, command
        yield from _commands(command, label)


def _describe(command: Any) -> Iterator[str]:
    yield _flow(command.help or "") + "\n"
    params = [item for item in command.params if item.name != "help"]
    if not params:
        return
    yield "| parameter | meaning | default |"
    yield "|---|---|---|"
    types = typing.get_type_hints(command.callback)
    for item in params:
        yield f"| {_label(item, types[item.name])} | {_meaning(item)} | {_default(item)} |"


def _label(item: Any, annotation: Any) -> str:
    if item.param_type_name == "argument":
        name = item.metavar or item.name.upper()
        return f"`{name}`" + ("..." if item.nargs == -1 else "")
    names = ", ".join(f"`{name}`" for name in item.opts)
    if item.secondary_opts:
        names += " / " + ", ".join(f"`{name}`" for name in item.secondary_opts)
    return names if annotation is bool else f"{names} {item.metavar or _kind(annotation)}"


def _kind(annotation: Any) -> str:
    """Return what a value looks like: its choices, or a word for its type."""
    inner = [each for each in typing.get_args(annotation) if each is not type(None)]
    if inner:
        return _kind(inner[0])
    if issubclass(annotation, enum.Enum):
        return " &#124; ".join(str(each.value) for each in annotation)
    return {"str": "TEXT", "int": "INTEGER", "float": "NUMBER"}.get(
        annotation.__name__, annotation.__name__.upper()
    )


def _meaning(item: Any) -> str:
    text = _flow(getattr(item, "help", None) or "")
    parts = [text]
    low, high = getattr(item, "min", None), getattr(item, "max", None)
    if low is not None and high is not None:
        parts.append(f"{low} to {high}.")
    elif low is not None:
        parts.append(f"{low} or more.")
    if getattr(item, "multiple", False) and "repeated" not in text:
        parts.append("May be repeated.")
    if envvar := getattr(item, "envvar", None):
        parts.append(f"Environment: `{envvar}`.")
    return " ".join(part for part in parts if part).replace("|", "&#124;")


def _default(item: Any) -> str:
    if item.required:
        return "required"
    value = item.default
    if value is None or value in ((), []) or "Sentinel" in type(value).__name__:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"`{getattr(value, 'value', value)}`"


def _flow(text: str) -> str:
    """Return help text as paragraphs of one line."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\b", "").strip())
    return "\n\n".join(" ".join(part.split()) for part in paragraphs)


def _first_sentence(text: str) -> str:
    return _flow(text).split("\n\n")[0].split(". ")[0].rstrip(".").replace("|", "&#124;")


def build_models() -> str:
    """Return the page of models, what they take and their licences."""
    from openeo_cloudmask.models import ALIASES, MODELS
    from openeo_cloudmask.models.onnx_detector import needed_extra
    from openeo_cloudmask.sensors import SENSORS

    lines = [
        _NOTE,
        "# Models and licences\n",
        (
            "The package itself is Apache-2.0. The weights of a model have a licence of their own, "
            "which binds whoever uses the model; `cloudmask run` prints it, and it stands in the "
            "catalog. `cloudmask models show NAME` prints what stands here.\n"
        ),
        "| model | also called | classes | licence of the weights | commercial use | runs with |",
        "|---|---|---|---|---|---|",
    ]
    for entry in MODELS.values():
        names = ", ".join(f"`{key}`" for key, target in ALIASES.items() if target == entry.id)
        allowed = "no" if entry.licence.non_commercial else "yes, under its terms"
        needed = needed_extra(entry)
        extra = f"extra `{needed}`" if needed else "bare install"
        lines.append(
            f"| [`{entry.id}`](#{_anchor(entry.id)}) | {names} | {entry.scheme_name} | "
            f"[{entry.licence.spdx}]({entry.licence.url}) | {allowed} | {extra} |"
        )
    lines += ["", "What a licence asks of you is for you to judge; this table is no legal advice."]
    for entry in MODELS.values():
        lines += ["", *_model(entry)]
    lines += ["", "## Sensors\n", "| id | title | bands |", "|---|---|---|"]
    for sensor in SENSORS.values():
        lines.append(f"| `{sensor.id}` | {sensor.title} | {', '.join(sensor.band_names)} |")
    return "\n".join(lines) + "\n"


def _anchor(name: str) -> str:
    return re.sub(r"[^\w-]", "", name.lower())


def _model(entry: Any) -> Iterator[str]:
    yield f"## {entry.id}\n"
    yield f"{entry.title}. {entry.summary}\n"
    yield "| | |"
    yield "|---|---|"
    for sensor, bands in entry.inputs.items():
        yield f"| {sensor} | {', '.join(bands)} |"
    for sensor, sets in entry.alternatives.items():
        yield f"| {sensor}, with less | {'; or '.join(', '.join(names) for names in sets)} |"
    if entry.sensor_independent:
        yield f"| other sensors | any {entry.min_bands} bands or more of a described sensor |"
    window = "single pixels" if entry.window.pixelwise else f"{entry.window.size_px} pixels"
    yield f"| window | {window} |"
    titles = ", ".join(f"{item.value} {item.title.lower()}" for item in entry.scheme.classes)
    yield f"| own classes | {titles} |"
    if entry.weights is not None:
        yield f"| weights | `{entry.weights.file}` of [{entry.weights.repo}]({entry.weights.url}) |"
        digest = entry.weights.sha256 or "none published; that of the first download is kept to"
        yield f"| SHA-256 | {digest} |"
    if entry.trained_on:
        yield f"| trained on | {', '.join(entry.trained_on)} |"
    doi = f" [doi:{entry.doi}](https://doi.org/{entry.doi})" if entry.doi else ""
    yield f"| citation | {entry.citation}{doi} |"


if __name__ == "__main__":
    sys.exit(main())
