"""Run the steps of ``docker/Dockerfile`` in a Debian root; see ``docker/prove.sh``.

Knows the instructions that this Dockerfile uses. Files and settings by which pip finds its index
here are lent to the root while it runs: ``PIP_*`` variables and those that name certificates,
``/etc/pip.conf``, and the files and folders in ``PROVE_SHARE`` (separated by colons), read-only.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 180
_LENT = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(slots=True, kw_only=True)
class Stage:
    """A stage as far as it has been run."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def read_instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments); lines that go on are joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, _, rest in found]


def wanted_stages(steps: list[tuple[str, str]], target: str) -> set[str]:
    """Return the target and the stages it is made from."""
    needs: dict[str, set[str]] = {}
    name = ""
    for word, rest in steps:
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            needs[name] = {source}
        elif word == "COPY" and (match := re.search(r"--from=(\S+)", rest)):
            needs[name].add(match.group(1))
    found, waiting = set(), [target]
    while waiting:
        stage = waiting.pop()
        if stage in needs and stage not in found:
            found.add(stage)
            waiting += needs[stage]
    return found


def run_in(stage: Stage, command: list[str], *, detach: bool = False) -> subprocess.Popen[bytes]:
    """Start a command in the stage's root, with its environment, folder and user."""
    shared = [part for part in os.environ.get("PROVE_SHARE", "").split(":") if part]
    mounts = ["mount -t proc proc {r}/proc", "mount --rbind /dev {r}/dev"]
    for place in ("/etc/pip.conf", *shared):
        if not Path(place).exists():
            continue
        make = f"mkdir -p {{r}}{place}"
        if not Path(place).is_dir():
            make = f"mkdir -p {{r}}{Path(place).parent} && touch {{r}}{place}"
        mounts.append(f"{make} && mount --bind -o ro {place} {{r}}{place}")
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **stage.env}
    if not detach:  # what pip is told here is told to the steps, never to the running service
        env |= {
            key: value for key, value in os.environ.items() if key.startswith("PIP_")
        } | stage.env
    inner = ["chroot", f"--userspec={stage.user}", str(stage.root), "/usr/bin/env", "-i"]
    inner += [f"{key}={value}" for key, value in env.items()]
    inner += ["/bin/sh", "-c", f"cd {shlex.quote(stage.workdir)} && exec {shlex.join(command)}"]
    script = " && ".join(part.format(r=shlex.quote(str(stage.root))) for part in mounts)
    outer = ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c"]
    command = [*outer, f"{script} && exec {shlex.join(inner)}"]
    return subprocess.Popen(command, start_new_session=True)


def do_run(stage: Stage, command: list[str]) -> None:
    """Run a command to its end; its failure ends the proof."""
    status = run_in(stage, command).wait()
    if status:
        sys.exit(f"FAILED with status {status}: {shlex.join(command)[:200]}")


def do_copy(stage: Stage, rest: str, stages: dict[str, Stage]) -> None:
    """Copy from the checkout or another stage, as ``COPY`` does."""
    words = rest.split()
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    origin = stages[flags["from"]].root if "from" in flags else ROOT
    place = stage.root / str(Path(stage.workdir) / target).lstrip("/")
    for source in sources:
        for found in sorted(origin.glob(source.lstrip("/"))):
            if found.is_dir():
                ignore = shutil.ignore_patterns("__pycache__", "*.tmp")
                shutil.copytree(found, place, dirs_exist_ok=True, ignore=ignore)
                continue
            into = place / found.name if target.endswith("/") else place
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, into)
            if "chmod" in flags:
                into.chmod(int(flags["chmod"], 8))


def expand(text: str, names: dict[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}`` of build arguments and environment."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: names.get(match.group(1), ""), text)


def build(work: Path, target: str) -> Stage:
    """Run the instructions of all stages that ``target`` needs; return the target."""
    steps = read_instructions(ROOT / "docker" / "Dockerfile")
    wanted = wanted_stages(steps, target)
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    arguments: dict[str, str] = {}
    for word, rest in steps:
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            stage = None
            if name in wanted:
                stage = stages[name] = begin_stage(work, name, stages.get(source))
                arguments = {}
            continue
        if word == "ARG":
            key, _, default = rest.partition("=")
            arguments[key] = os.environ.get(key, default.strip('"'))
        if stage is None or word == "ARG":
            continue
        print(f"--- {word} {rest[:110]}", flush=True)
        apply(stage, word, rest, arguments, stages)
    return stages[target]


def begin_stage(work: Path, name: str, source: Stage | None) -> Stage:
    """Return a stage on a copy of what it is made from."""
    print(f"=== {name}", flush=True)
    root = work / f"stage-{name}"
    shutil.rmtree(root, ignore_errors=True)
    origin = work / "base" if source is None else source.root
    subprocess.run(["cp", "-a", "--reflink=auto", str(origin), str(root)], check=True)
    if source is None:
        return Stage(root=root)
    return Stage(
        root=root, env=dict(source.env), workdir=source.workdir, user=source.user,
        entrypoint=list(source.entrypoint), command=list(source.command),
    )  # fmt: skip


def apply(
    stage: Stage, word: str, rest: str, arguments: dict[str, str], stages: dict[str, Stage]
) -> None:
    """Run one instruction."""
    default = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    names = {**default, **arguments, **stage.env}
    if word == "ENV":
        for item in shlex.split(rest):
            key, _, value = item.partition("=")
            stage.env[key] = expand(value, names)
    elif word == "RUN":
        inside = Stage(root=stage.root, env={**arguments, **stage.env}, workdir=stage.workdir)
        inside.user = stage.user
        do_run(inside, ["/bin/sh", "-c", rest])
    elif word == "COPY":
        do_copy(stage, rest, stages)
    elif word == "WORKDIR":
        stage.workdir = rest
        (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif word == "USER":
        stage.user = rest
    elif word in ("ENTRYPOINT", "CMD"):
        setattr(stage, "entrypoint" if word == "ENTRYPOINT" else "command", json.loads(rest))
    elif word == "HEALTHCHECK":
        stage.health = json.loads(rest.partition("CMD")[2])
    elif word not in ("VOLUME", "EXPOSE"):
        sys.exit(f"{word} is not known to docker/prove.py")


def prove_service(stage: Stage) -> None:
    """Start the target's command and wait until its health check succeeds."""
    print(f"=== CMD {shlex.join(stage.command)}", flush=True)
    if run_in(stage, stage.health, detach=True).wait() == 0:
        sys.exit("FAILED: another service answers at this port already; stop it first")
    service = run_in(stage, [*stage.entrypoint, *stage.command], detach=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while run_in(stage, stage.health, detach=True).wait():
            if service.poll() is not None or time.monotonic() > deadline:
                sys.exit("FAILED: the service does not become healthy")
            time.sleep(3)
        print("healthy", flush=True)
    finally:
        os.killpg(service.pid, signal.SIGKILL)  # the first process of its namespace takes all along
        service.wait(30)


def main() -> None:
    """Build the target, start its command, run the demo, and say how large it is."""
    work, target = Path(sys.argv[1]).resolve(), sys.argv[2]
    stage = build(work, target)
    print("=== demo", flush=True)
    do_run(stage, [*stage.entrypoint, "cloudmask", "demo", "demo"])
    if target != "worker":  # a worker needs a scheduler
        prove_service(stage)
    for place in ("", "/opt/cloudmask"):
        size = subprocess.run(
            ["du", "-sxm", f"{stage.root}{place}"], capture_output=True, text=True, check=False
        )
        print(f"{target}: {size.stdout.split()[0]} MB in {place or '/'}")


if __name__ == "__main__":
    main()
