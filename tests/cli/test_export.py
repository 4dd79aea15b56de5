"""``cloudmask export``: arguments and refusals; the file itself is tested with the models."""

import pytest
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app
from openeo_cloudmask.errors import OptionError, OutputError
from openeo_cloudmask.models import onnx_export


def invoke(*arguments):
    return CliRunner().invoke(build_app(), ["export", *map(str, arguments)])


def test_arguments_reach_the_exporter(tmp_path, monkeypatch):
    seen = {}

    class Card:
        model, sensor, bands, window_px = "cloudsen12", "sentinel-2-l1c", ("B02",), 64

    def fake(model, output, **options):
        seen.update(options, model=model)
        output.write_bytes(b"onnx")
        return Card

    monkeypatch.setattr(onnx_export, "export_onnx", fake)
    result = invoke("senseiv2", tmp_path / "x.onnx", "--bands", "B02, B03,B04", "--window-px", 64)
    assert result.exit_code == 0
    assert "windows of 64 px" in result.output
    assert "GPL-3.0" in result.output
    assert seen["bands"] == ["B02", "B03", "B04"]
    assert seen["window_px"] == 64
    assert seen["sensor"] is None


def test_existing_file_is_kept(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_text("mine")
    result = invoke("senseiv2", path)
    assert isinstance(result.exception, OutputError)
    assert "--overwrite" in str(result.exception)
    assert path.read_text() == "mine"


def test_rule_is_not_exported(tmp_path):
    with pytest.raises(OptionError, match="is not exported"):
        raise invoke("hollstein", tmp_path / "x.onnx").exception


def test_missing_folder_is_not_made(tmp_path):
    result = invoke("mini", tmp_path / "absent" / "x.onnx")
    assert isinstance(result.exception, OutputError)
    assert "is not there; create it first" in str(result.exception)
    assert not (tmp_path / "absent").exists()
