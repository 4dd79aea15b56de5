from __future__ import annotations

import errno
import json
import os
import sys

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin
from typer.testing import CliRunner

from openeo_cloudmask.cli import build_app, main
from openeo_cloudmask.cli.scenes import plan_outputs
from openeo_cloudmask.models import MODELS
from openeo_cloudmask.sensors import SENSORS


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.tif"
    counts = np.random.default_rng(0).integers(1, 9000, (13, 60, 70)).astype(np.uint16)
    counts[:, :6] = 0
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=13,
        height=60,
        width=70,
        dtype="uint16",
        crs="EPSG:32632",
        transform=from_origin(499980, 5300040, 10, 10),
    ) as dataset:
        dataset.write(counts)
    return path


BANDS = ",".join(SENSORS["sentinel-2-l1c"].band_names)


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs ``cloudmask`` as a shell does: (status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cloudmask", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:  # noqa: PT012
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return exit_.value.code or 0, out, err

    return run


@pytest.mark.parametrize(
    ("arguments", "ways"),
    [(["run", "--categorise", "false", "a.tif", "b.tif"], "--categorise or --probabilities"),
     (["run", "a.tif", "b.tif", "--no-overwrite", "True"], "--overwrite or --no-overwrite"),
     (["models", "--json", "yes"], "--json")],
)  # fmt: skip
def test_a_value_behind_a_switch_is_no_input(command, arguments, ways):
    status, _, err = command(*arguments)
    assert status == 2
    assert "takes no value" in err
    assert f"expected {ways} alone" in err


@pytest.mark.parametrize("arguments", [["a.tif", ""], ["", "b.tif"]])
def test_an_empty_word_is_no_folder(command, arguments):
    status, _, err = command("run", *arguments)
    assert status == 2
    assert "an empty word stands behind" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x" * 5000, "b.tif"], "xxx: the name is too long"),
        (["simulate", "FILE", "--size", "48"], "FILE: a file lies where a folder is expected"),
        (["simulate", "FOLDER", "--seed", "-1"], "seed is -1; expected a whole number from 0 on"),
        (["leaderboard", "none"], "none is not there"),
        (["run", "PIPE", "b.tif"], "PIPE is neither a file nor a folder"),
    ],
)
def test_faults_of_paths_are_one_sentence(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("x")
    os.mkfifo(tmp_path / "PIPE")
    status, _, err = command(*arguments)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (MemoryError("no 18 PiB"), "the memory of this machine does not suffice (no 18 PiB)"),
        (OSError(errno.ENOSPC, "No space left on device"), "a file: its disk is full"),
    ],
)
def test_a_full_machine_is_one_sentence(command, monkeypatch, fault, message):
    def full(*_, **__):
        raise fault

    monkeypatch.setattr("openeo_cloudmask.simulator.scene.simulate_scene", full)
    status, _, err = command("simulate", "folder")
    assert status == 2
    assert err == f"Error: {message}\n"


def test_inputs_may_have_any_name(command):
    assert "of 3 scenes" in command("run", "a", "--overwrite", "--", "true", "b", "c")[2]


def test_a_mask_with_its_summary(command, scene, tmp_path):
    output = tmp_path / "mask.tif"
    status, out, err = command(
        "run", scene, output, "--model", "hollstein", "--bands", BANDS, "--scale", "0.0001"
    )
    assert status == 0
    assert "Cloud shadow" in out
    assert "10.00% of all pixels" in out
    assert str(output) in out
    assert err.count("Apache-2.0") == 1
    with rasterio.open(output) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (dataset.read(1)[:6] == 255).all()
        assert set(np.unique(dataset.read(1)[6:])) <= {0, 1, 2, 3}


def rewrite(source, target, *, pixel_m=10, add=0, names=None):
    with rasterio.open(source) as dataset:
        counts, profile = dataset.read() + np.uint16(add), dataset.profile
    profile |= {"transform": from_origin(499980, 5300040, pixel_m, pixel_m)}
    if names is not None:
        profile["count"], counts = len(names), counts[: len(names)]
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(counts)
        for number, name in enumerate(names or (), start=1):
            dataset.set_band_description(number, name)
    return target


def test_an_assumed_sensor_is_said(command, scene, tmp_path):
    arguments = ("run", scene, tmp_path / "mask.tif", "--model", "hollstein", "--bands", BANDS)
    status, _, err = command(*arguments, "--scale", "0.0001")
    assert status == 0
    said = "Assumed sentinel-2-l1c from the names of the bands; --sensor to change"
    assert err.count(said) == 1
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert dataset.tags()["SENSOR_ASSUMED"] == "from the names of the bands"
    given = ("--scale", "0.0001", "--sensor", "sentinel-2-l1c", "--overwrite")
    status, _, err = command(*arguments, *given)
    assert (status, "Assumed" in err) == (0, False)
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert "SENSOR_ASSUMED" not in dataset.tags()


def test_pixels_that_are_not_the_sensors_are_told(command, scene, tmp_path):
    """Four bands of PlanetScope have the common names that Sentinel-2 has."""
    planet = rewrite(scene, tmp_path / "p.tif", pixel_m=3, names=("blue", "green", "red", "nir"))
    arguments = ("run", planet, tmp_path / "mask.tif", "--scale", "0.0001")
    status, _, err = command(*arguments)
    assert status == 2
    assert "pixels of 3 m are not those of sentinel-2-l1c (5 to 120 m)" in err
    assert "Model" not in err  # the licence of a model that did not run
    status, _, err = command(*arguments, "--sensor", "sentinel-2-l1c")
    assert status == 0
    assert "Warning: pixels of 3 m are not those of sentinel-2-l1c" in err
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert "pixels of 3 m" in dataset.tags()["WARNING"]


@pytest.mark.parametrize("names", [("Band 1 (Gray)", "b", "c", "d"), None])
def test_unknown_names_end_with_what_to_pass(command, scene, tmp_path, names):
    four = rewrite(scene, tmp_path / "four.tif", names=names or ("", "", "", ""))
    status, _, err = command("run", four, tmp_path / "mask.tif")
    assert status == 2
    assert "The fewest bands that mini takes are B02, B03, B04, B08 of sentinel-2-l1c" in err
    way = "--bands B02,B03,B04,B08 --sensor sentinel-2-l1c, and --scale 0.0001"
    assert way in err
    options = way.replace(", and", "").split()
    assert command("run", four, tmp_path / "mask.tif", *options)[0] == 0


@pytest.mark.parametrize(
    ("names", "model"), [(("B02", "B03", "B04", "B08"), "scl"), (("B1", "B2", "B3", "B4"), "mini")]
)
def test_bands_that_have_names_get_no_others(command, scene, tmp_path, names, model):
    """Names by place would make B02 of what is B03."""
    four = rewrite(scene, tmp_path / "four.tif", names=names)
    status, _, err = command("run", four, tmp_path / "mask.tif", "--model", model)
    assert (status, "--bands B" in err, "--bands SCL" in err) == (2, False, False)
    assert "--sensor" in err if model == "mini" else "named by --bands, all in their order" in err


def test_a_scale_that_is_applied_twice_is_told(command, scene, tmp_path):
    arguments = ("run", scene, tmp_path / "mask.tif", "--model", "hollstein", "--bands", BANDS)
    status, _, err = command(*arguments, "--scale", "0.00000001")
    assert (status, "the scale seems to be applied twice" in err) == (0, True)
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        assert "applied twice" in dataset.tags()["WARNING"]
    status, _, err = command(*arguments, "--scale", "-0.0001", "--overwrite")
    assert (status, "scale is -0.0001" in err) == (2, True)


def test_a_missing_offset_is_told(command, scene, tmp_path):
    arguments = (tmp_path / "mask.tif", "--model", "hollstein", "--bands", BANDS, "--overwrite")
    later = rewrite(scene, tmp_path / "later.tif", add=1000)
    status, _, err = command("run", later, *arguments, "--scale", "0.0001")
    assert status == 0
    assert "hardly a pixel is darker than reflectance 0.1" in err
    status, _, err = command("run", later, *arguments, "--scale", "0.0001", "--offset", "-0.1")
    assert (status, "hardly a pixel" in err) == (0, False)


def test_counts_are_refused_with_the_option_to_pass(command, scene, tmp_path):
    arguments = ("run", scene, tmp_path / "mask.tif", "--model", "hollstein", "--bands", BANDS)
    status, _, err = command(*arguments)
    assert (status, "--scale 0.0001" in err) == (2, True)
    assert "scale=0.0000275 and offset=-0.2 for Landsat Collection 2 Level-2" in err


def test_a_buffer_is_written_into_the_file(command, scene, tmp_path):
    arguments = ("run", scene, tmp_path / "mask.tif", "--model", "hollstein", "--bands", BANDS)
    arguments += ("--scale", "0.0001", "--threshold", "cloud=0.4", "--min-area", "5px")
    status, out, _ = command(*arguments, "--buffer", "cloud=30m,shadow=10m")
    assert status == 0
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        tags, values = dataset.tags(), dataset.read(1)
    assert (tags["BUFFER"], tags["MIN_AREA"]) == ("cloud=30m,shadow=10m", "5px")
    assert tags["THRESHOLD"] == "cloud=0.4"
    assert f"Cloud shadow  {(values == 3).sum() / (values < 255).sum():7.2%}" in out
    status, _, err = command(*arguments, "--buffer", "120", "--probabilities", "--overwrite")
    assert (status, "changes classes" in err) == (2, True)


def test_probabilities_of_a_style(command, scene, tmp_path):
    output = tmp_path / "mask.tif"
    arguments = ("--bands", BANDS, "--scale", "0.0001", "--output-style", "valid-invalid")
    status, _, _ = command(
        "run", scene, output, "--model", "hollstein", "--probabilities", *arguments
    )
    assert status == 0
    with rasterio.open(output) as dataset:
        assert dataset.descriptions == ("valid", "invalid")
        assert set(np.unique(dataset.read()[:, 6:])) <= {0, 100}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "holstein"), "did you mean"),
        (("--model", "hollstein", "--stride", "100"), "stride is 100"),
        (("--model", "hollstein"), "Name the layers of the file"),
        (("--model", "hollstein", "--bands", BANDS), "scale=0.0001"),
        (("--model", "hollstein", "--bands", "B02,B03"), "2 band names are given"),
        (("--model", "hollstein", "--device", "tpu"), "device is 'tpu'"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(command, scene, tmp_path, arguments, message):
    status, _, err = command("run", scene, tmp_path / "mask.tif", *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "mask.tif").exists()


def test_an_existing_output_is_kept_unless_told_otherwise(command, scene, tmp_path):
    output = tmp_path / "mask.tif"
    output.write_text("precious")
    arguments = ("run", scene, output, "--model", "hollstein", "--bands", BANDS, "--scale", "1e-4")
    status, _, err = command(*arguments)
    assert status == 2
    assert "--overwrite" in err
    assert output.read_text() == "precious"
    assert command(*arguments, "--overwrite")[0] == 0


def test_a_scene_without_georeference_is_refused_unless_told_otherwise(command, scene, tmp_path):
    bare = tmp_path / "bare.tif"
    with rasterio.open(scene) as dataset:
        profile = dataset.profile | {"crs": None, "transform": rasterio.Affine.identity()}
        pixels = dataset.read()
    with rasterio.open(bare, "w", **profile) as dataset:
        dataset.write(pixels)
    arguments = (
        "run", bare, tmp_path / "mask.tif", "--model", "hollstein", "--bands", BANDS,
        "--scale", "0.0001",
    )  # fmt: skip
    status, _, err = command(*arguments)
    assert status == 2
    assert "has no georeference" in err
    assert "--ungeoreferenced" in err
    assert "Ground control points" not in err
    points = [GroundControlPoint(row=0, col=0, x=11, y=48), GroundControlPoint(9, 9, 11.1, 47.9)]
    with rasterio.open(bare, "r+") as dataset:
        dataset.gcps = (points, "EPSG:4326")
    assert "Ground control points alone place it: gdalwarp it" in command(*arguments)[2]
    assert not (tmp_path / "mask.tif").exists()
    status, _, err = command(*arguments, "--ungeoreferenced")
    assert status == 0
    assert "Warning: the input has no georeference" in err


def test_models_lists_them_all_once():
    result = CliRunner().invoke(build_app(), ["models", "--json"])
    assert result.exit_code == 0
    assert [item["name"] for item in json.loads(result.stdout)] == list(MODELS)


def test_models_as_a_table():
    result = CliRunner().invoke(build_app(), ["models"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for name in MODELS:
        assert name in result.stdout


def test_one_model():
    runner = CliRunner()
    result = runner.invoke(build_app(), ["models", "show", "hollstein"])
    assert result.exit_code == 0
    assert "licence: Apache-2.0" in result.stdout
    shown = json.loads(
        runner.invoke(build_app(), ["models", "show", "ukis-csmask", "--json"]).stdout
    )
    assert shown["inputs"]["landsat-8-9-l1"][0] == "B2"
    assert shown["commercial_use"] is True


def test_an_unknown_model_is_status_2(command):
    status, _, err = command("models", "show", "hollsten")
    assert status == 2
    assert "did you mean 'hollstein'" in err


@pytest.fixture
def scenes(scene, tmp_path):
    """Two scenes, and between them a file that is not a scene."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    first, second = folder / "S2A_first.tif", folder / "S2B_second.tif"
    for path in (first, second):
        path.write_bytes(scene.read_bytes())
    broken = folder / "broken.tif"
    broken.write_text("no image")
    return first, broken, second


OPTIONS = ("--model", "hollstein", "--bands", BANDS, "--scale", "0.0001")


def test_several_scenes_go_into_a_folder(command, scenes, tmp_path):
    first, broken, second = scenes
    masks = tmp_path / "masks"
    status, out, err = command("run", first, second, masks, *OPTIONS)
    assert status == 0
    assert sorted(path.name for path in masks.iterdir()) == [
        "S2A_first_mask.tif",
        "S2B_second_mask.tif",
    ]
    assert "S2A_first.tif: clear " in out
    assert f"2 masked; masks in {masks}, " in out
    assert "2/2 S2B_second.tif: 1/1 windows" in err
    assert err.count("Apache-2.0") == 1

    before = {path: path.stat().st_mtime_ns for path in masks.iterdir()}
    status, out, err = command("run", first, broken, second, masks, *OPTIONS, "--skip-errors")
    assert status == 1
    assert "0 masked, 2 were there before, 1 failed" in out
    assert "broken.tif failed: " in err
    assert {path: path.stat().st_mtime_ns for path in masks.iterdir()} == before

    status, out, _ = command("run", second, masks, *OPTIONS)  # one scene, but a folder
    assert (status, "0 masked, 1 were there before" in out) == (0, True)


def test_a_failure_stops_the_run_unless_it_may_go_on(command, scenes, tmp_path):
    first, broken, second = scenes
    masks = tmp_path / "masks"
    status, _, err = command("run", first, broken, second, masks, *OPTIONS)
    assert status == 2
    assert "broken.tif" in err
    assert [path.name for path in masks.iterdir()] == ["S2A_first_mask.tif"]
    status, out, _ = command("run", first, second, masks, *OPTIONS)  # the same goes on
    assert (status, "1 masked, 1 were there before" in out) == (0, True)


def test_a_scene_that_is_not_there_is_said_before_the_others_are_masked(command, scenes, tmp_path):
    first, _, second = scenes
    masks, typo = tmp_path / "masks", tmp_path / "typo.tif"
    status, _, err = command("run", first, typo, second, masks, *OPTIONS)
    assert (status, f"of 3 scenes {typo} is not there" in err) == (2, True)
    assert list(masks.iterdir()) == []
    status, out, _ = command("run", first, typo, masks, *OPTIONS, "--skip-errors")
    assert (status, "1 masked, 1 failed" in out) == (1, True)


def test_one_scene_goes_into_a_folder_that_is_not_there_yet(command, scenes, tmp_path):
    masks = tmp_path / "masks"
    status, out, _ = command("run", scenes[0], masks, *OPTIONS)
    assert (status, f"1 masked; masks in {masks}" in out) == (0, True)
    assert [path.name for path in masks.iterdir()] == ["S2A_first_mask.tif"]


def test_masks_of_other_options_are_not_taken_for_these(command, scenes, tmp_path):
    first, _, second = scenes
    masks = tmp_path / "masks"
    assert command("run", first, second, masks, *OPTIONS)[0] == 0
    status, _, err = command("run", first, second, masks, *OPTIONS, "--buffer", "30m")
    assert status == 2
    assert "was made by other options or another version; pass --overwrite" in err
    status, out, _ = command(
        "run", first, second, masks, *OPTIONS, "--buffer", "30m", "--overwrite"
    )
    assert (status, "2 masked" in out) == (0, True)


def test_several_scenes_need_a_folder_and_names_of_their_own(command, scenes, tmp_path):
    first, _, second = scenes
    status, _, err = command("run", first, second, tmp_path / "mask.tif", *OPTIONS)
    assert (status, "OUTPUT is the file" in err) == (2, True)
    status, _, err = command("run", first, first, tmp_path / "masks", *OPTIONS)
    assert (status, "several scenes would be written to" in err) == (2, True)
    assert not (tmp_path / "masks").exists()


def test_masks_are_named_by_the_whole_name_of_the_product(tmp_path):
    names = ("HLS.S30.T32TQM.2024001.v2.0", "HLS.S30.T32TQM.2024002.v2.0", "S2A_X.SAFE.zip")
    pairs = plan_outputs([tmp_path / name for name in names], tmp_path / "masks")
    assert [path.name for _, path in pairs] == [
        "HLS.S30.T32TQM.2024001.v2.0_mask.tif",
        "HLS.S30.T32TQM.2024002.v2.0_mask.tif",
        "S2A_X_mask.tif",
    ]


def test_a_model_that_the_bare_install_runs_needs_no_extra(command):
    about = json.loads(command("models", "show", "mini", "--json")[1])
    assert about["extra"] is None
    assert json.loads(command("models", "show", "cloudsen12", "--json")[1])["extra"] == "torch"


def test_help_has_a_short_name(command):
    assert command("run", "-h")[0] == 0
