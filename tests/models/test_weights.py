from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from openeo_cloudmask.errors import WeightsError
from openeo_cloudmask.models import build_network, get_model
from openeo_cloudmask.models.entry import WEIGHTS_URLS, ModelEntry, WeightsSource
from openeo_cloudmask.models.state_dict import (
    load_state_dict_strict,
    load_torchscript,
    read_tensors,
)
from openeo_cloudmask.models.weights import find_weights, sha256_of

FILE = "UNetMobV2_V2.pt"
REPO = "isp-uv-es/cloudsen12_models"


@pytest.fixture
def entry() -> ModelEntry:
    return get_model("UNetMobV2_V2")


def with_source(entry: ModelEntry, **changes: Any) -> ModelEntry:
    assert entry.weights is not None
    return dataclasses.replace(entry, weights=dataclasses.replace(entry.weights, **changes))


# Finding


def test_offline_error_says_where_to_put_which_file(entry: ModelEntry, cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(entry)
    message = str(caught.value)
    assert f"https://huggingface.co/{REPO}/resolve/main/{FILE}" in message
    assert str(cache / "weights" / REPO / FILE) in message
    assert "OPENEO_CLOUDMASK_WEIGHTS" in message


@pytest.mark.parametrize("error", ["connection", "http", "disk"])
def test_failed_download_is_a_weights_error(
    entry: ModelEntry, cache: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    request = httpx2.Request("GET", "https://huggingface.co")
    errors: dict[str, Exception] = {
        "connection": ConnectionError("no route"),
        "http": HfHubHTTPError("503", response=httpx2.Response(503, request=request)),
        "disk": OSError(28, "No space left on device"),
    }

    def fail(**_: object) -> str:
        raise errors[error]

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"the download failed .* put the file at"):
        find_weights(entry)


def test_named_file_is_taken_as_it_is(entry: ModelEntry, cache: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(b"anything")
    assert find_weights(entry, own) == own
    assert find_weights(entry, str(own)) == own


def test_named_file_that_is_not_there(entry: ModelEntry, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pt, which is not there"):
        find_weights(entry, tmp_path / "gone.pt")
    with pytest.raises(WeightsError, match=f"does not hold {FILE}"):
        find_weights(entry, tmp_path)


def test_variable_names_a_file_or_a_folder(
    entry: ModelEntry, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"published"
    entry = with_source(entry, sha256=hashlib.sha256(content).hexdigest())
    (tmp_path / FILE).write_bytes(content)
    for value in (tmp_path, tmp_path / FILE):
        monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", str(value))
        assert find_weights(entry) == tmp_path / FILE
    monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(WeightsError, match=r"OPENEO_CLOUDMASK_WEIGHTS is .*gone"):
        find_weights(entry)


def test_folder_that_lacks_a_model_is_passed_over(
    entry: ModelEntry, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENEO_CLOUDMASK_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="Hugging Face hub cannot be reached"):
        find_weights(entry)


@pytest.mark.parametrize("where", ["folder", "cache"])
def test_wrong_digest_is_refused(
    entry: ModelEntry, cache: Path, tmp_path: Path, where: str
) -> None:
    path = (tmp_path if where == "folder" else cache / "weights" / REPO) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not these")
    given = hashlib.sha256(b"not these").hexdigest()
    with pytest.raises(WeightsError, match=f"SHA-256 is {given}.*9 of 26796072 bytes"):
        find_weights(entry, tmp_path if where == "folder" else None)


@pytest.mark.parametrize("where", ["folder", "cache"])
def test_a_file_is_found_by_any_name_it_was_published_under(
    cache: Path, tmp_path: Path, where: str
) -> None:
    entry = get_model("cloudsen12l2a")
    path = (tmp_path if where == "folder" else cache / "weights") / entry.weights.repo
    path = path / "cloudsen12-s2-l2a-1.0.0.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert find_weights(entry, tmp_path if where == "folder" else None) == path


def test_first_download_is_recorded_and_later_ones_have_to_match(
    entry: ModelEntry, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = with_source(entry, sha256=None, size_bytes=None)
    downloaded = tmp_path / "hub" / FILE
    downloaded.parent.mkdir()
    downloaded.write_bytes(b"first")
    asked: list[dict[str, object]] = []

    def download(**arguments: object) -> str:
        asked.append(arguments)
        return str(downloaded)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert find_weights(entry) == downloaded
    # The test's hub is set to be offline: its library is not to try for half a minute.
    expected = {"repo_id": REPO, "filename": FILE, "revision": "main", "local_files_only": True}
    assert asked == [expected]
    record = json.loads((cache / "digests.json").read_text())
    assert record == {f"{REPO}@main/{FILE}": hashlib.sha256(b"first").hexdigest()}
    assert find_weights(entry) == downloaded
    downloaded.write_bytes(b"changed since")
    with pytest.raises(WeightsError, match="as recorded at the first download"):
        find_weights(entry)


@pytest.fixture
def host(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Yield a folder that a server on this machine serves, in the place of GitHub."""
    folder = tmp_path_factory.mktemp("host")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{{repo}}/{{revision}}/{{file}}"
        monkeypatch.setitem(WEIGHTS_URLS, "github", address)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder
        server.shutdown()


def on_github(content: bytes, **changes: Any) -> ModelEntry:
    """Return a model whose published file has this content."""
    about: dict[str, Any] = {
        "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)
    }  # fmt: skip
    source = WeightsSource(
        host="github", repo="a/b", revision="c", file="d/e.hdf5", **(about | changes)
    )
    return dataclasses.replace(get_model("dl-l8s2-uv"), weights=source)


def publish(host: Path, content: bytes) -> None:
    path = host / "a" / "b" / "c" / "d" / "e.hdf5"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_file_of_github_is_downloaded_once(cache: Path, host: Path) -> None:
    publish(host, b"published")
    entry = on_github(b"published")
    path = find_weights(entry)
    assert path == cache / "weights" / "a" / "b" / "d" / "e.hdf5"
    assert path.read_bytes() == b"published"
    assert [item.name for item in path.parent.iterdir()] == ["e.hdf5"]
    shutil.rmtree(host / "a")
    assert find_weights(entry) == path


@pytest.mark.parametrize(
    ("given", "changes", "message"),
    [
        (b"published?", {"size_bytes": None}, "is not the file that was published"),
        (b"publish", {}, r"It has 7 of 9 bytes: it may be cut short\. Download it again"),
        (b"published and more", {}, "has more than the 9 bytes published"),
        (None, {}, r"its host answers with status 404\. Download http://127.* put the file at"),
    ],
)
def test_only_the_published_file_gets_into_the_cache(
    cache: Path, host: Path, given: bytes | None, changes: dict[str, Any], message: str
) -> None:
    if given is not None:
        publish(host, given)
    with pytest.raises(WeightsError, match=message):
        find_weights(on_github(b"published", **changes))
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_host_that_cannot_be_reached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setitem(
        WEIGHTS_URLS, "github", f"http://127.0.0.1:{port}/{{repo}}{{revision}}{{file}}"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(
        WeightsError, match=r"its host cannot be reached\. Download .* put the file"
    ):
        find_weights(on_github(b"published"))


def test_hosts_are_known() -> None:
    with pytest.raises(WeightsError, match="host 'other'; expected one of huggingface, github"):
        WeightsSource(host="other", repo="a/b", file="c.pt", revision="d")


def test_files_whose_name_says_nothing_need_their_folder(cache: Path, tmp_path: Path) -> None:
    source = WeightsSource(repo="a/b", file="full-models/one/weights.pt", revision="c")
    entry = dataclasses.replace(get_model("cloudsen12"), weights=source)
    (tmp_path / "weights.pt").write_bytes(b"whose?")
    with pytest.raises(WeightsError, match=r"does not hold full-models/one/weights\.pt"):
        find_weights(entry, tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "weights.pt").write_bytes(b"of one")
    assert find_weights(entry, tmp_path) == tmp_path / "one" / "weights.pt"


def test_damaged_record_is_an_error(entry: ModelEntry, cache: Path) -> None:
    entry = with_source(entry, sha256=None)
    path = cache / "weights" / REPO / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    (cache / "digests.json").write_text("{")
    with pytest.raises(WeightsError, match=r"digests\.json cannot be read"):
        find_weights(entry)


def test_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert sha256_of(path) == hashlib.sha256(b"other").hexdigest()


# Loading


@pytest.fixture
def network() -> Any:
    return build_network("unet-mobilenet-v2", {"bands": 4, "classes": 4})


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Any], Path]:
    def write(content: Any) -> Path:
        torch.save(content, tmp_path / "weights.pt")
        return tmp_path / "weights.pt"

    return write


Save = Callable[[Any], Path]


@pytest.mark.parametrize("form", ["plain", "wrapped", "prefixed", "lightning", "safetensors"])
def test_published_forms_load(golden_unet: Any, network: Any, save: Save, form: str) -> None:
    from safetensors.torch import save_file

    state = golden_unet(4).state_dict()
    prefixed = {f"model.{key}": value for key, value in state.items()}
    if form == "safetensors":
        path = save({}).with_suffix(".safetensors")
        save_file(state, path)
    else:
        forms = {
            "plain": state,
            "wrapped": {"state_dict": dict(state)},
            "prefixed": prefixed,
            "lightning": {"epoch": 3, "state_dict": prefixed, "loops": {"lr": [0.1]}},
        }
        path = save(forms[form])
    load_state_dict_strict(network, path)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_missing_extra_and_misshapen_keys_are_named(network: Any, save: Save) -> None:
    state = network.state_dict()
    del state["segmentation_head.0.bias"]
    state["auxiliary.weight"] = torch.zeros(2)
    state["encoder.features.0.0.weight"] = torch.zeros(32, 13, 3, 3)
    with pytest.raises(WeightsError) as caught:
        load_state_dict_strict(network, save(state))
    message = str(caught.value)
    assert "1 keys are missing: segmentation_head.0.bias" in message
    assert "1 keys are not expected: auxiliary.weight" in message
    assert "encoder.features.0.0.weight is (32, 13, 3, 3), expected (32, 4, 3, 3)" in message


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_no_numbers_are_named(network: Any, save: Save, value: float) -> None:
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state["encoder.features.3.conv.2.weight"].view(-1)[5] = value
    with pytest.raises(WeightsError, match=r"no finite numbers, in 1 keys: encoder.features.3.con"):
        load_state_dict_strict(network, save(state))


def test_refused_weights_change_nothing(network: Any, save: Save) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {key: torch.ones_like(value) for key, value in before.items()}
    del state["segmentation_head.0.bias"]
    with pytest.raises(WeightsError, match="missing"):
        load_state_dict_strict(network, save(state))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("keep", [10, 1000, -100])
def test_truncated_files(network: Any, save: Save, keep: int) -> None:
    path = save(network.state_dict())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load_state_dict_strict(network, path)


def test_truncated_safetensors(network: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError, match="truncated or is no safetensors"):
        load_state_dict_strict(network, path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must not run",))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_pickle_never_runs(
    network: Any, save: Save, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save({"a": Harmful()})
    if how == "pickle":
        path.write_bytes(pickle.dumps({"a": Harmful()}))
    with pytest.raises(WeightsError, match=r"other objects than tensors|no weights file"):
        load_state_dict_strict(network, path)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1, "b": "text"}, "no tensors: a, b"),
        ([1, 2], "holds a list; expected a state dict"),
        ({}, "holds a dict; expected a state dict"),
    ],
)
def test_what_is_no_state_dict(save: Save, content: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_tensors(save(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"hello, I am text", "truncated, damaged or no weights file"),
    ],
)
def test_what_lands_under_a_weights_file_s_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_tensors(path)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read the weights file"):
        read_tensors(tmp_path / "gone.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_and_state_dicts_are_told_apart(network: Any, save: Save) -> None:
    device = torch.device("cpu")
    path = save(network.state_dict())
    with pytest.raises(WeightsError, match=r"is no TorchScript file .it holds no code"):
        load_torchscript(path, device)
    path.write_bytes(b"neither")
    with pytest.raises(WeightsError, match=r"is no TorchScript file .it is no zip"):
        load_torchscript(path, device)
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), str(path))
    assert load_torchscript(path, device)(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 4, 4)
    with pytest.raises(WeightsError, match="is a TorchScript file, expected a state dict"):
        read_tensors(path)
    path.write_bytes(path.read_bytes()[:-80])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        load_torchscript(path, device)
