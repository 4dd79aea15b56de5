import time

import numpy as np
import pytest

from openeo_cloudmask.errors import BandError, OptionError, SensorError
from openeo_cloudmask.sensors import SENSORS
from openeo_cloudmask.simulator.biomes import BIOMES
from openeo_cloudmask.simulator.clouds import (
    DECK_KINDS,
    build_deck,
    depth_steps,
    layer_optics,
)
from openeo_cloudmask.simulator.light import Geometry, slope_light
from openeo_cloudmask.simulator.noise import fractal_noise
from openeo_cloudmask.simulator.scene import (
    SHADOW_BEAM,
    THICK_DEPTH,
    THIN_DEPTH,
    simulate_scene,
)
from openeo_cloudmask.simulator.spectra import (
    SURFACES,
    WAVELENGTHS_NM,
    band_spectra,
    droplets,
    ice_crystals,
)
from openeo_cloudmask.simulator.surface import Surface

SMALL = 96


def test_the_same_seed_gives_the_same_scene_and_another_one_another():
    first, again, other = (simulate_scene(seed, size=SMALL) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.cube, again.cube)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert first.metadata == again.metadata
    assert not np.array_equal(first.cube, other.cube)


@pytest.mark.parametrize("sensor", list(SENSORS))
def test_every_sensor_has_all_its_bands_as_reflectance_or_normalised_temperature(sensor):
    scene = simulate_scene(3, sensor=sensor, size=(70, 93))
    assert scene.band_names == SENSORS[sensor].band_names
    assert scene.cube.shape == (len(scene.band_names), 70, 93)
    assert scene.cube.dtype == np.float32
    assert scene.truth.shape == scene.truth_alcd.shape == scene.optical_depth.shape == (70, 93)
    assert np.isfinite(scene.cube).all()
    assert scene.cube.min() >= 0
    assert scene.cube.max() < 2
    assert scene.transform.a == SENSORS[sensor].resolution_m


def test_truth_follows_from_optical_depth_and_the_suns_beam():
    scene = simulate_scene(8, size=SMALL, decks=("cumulus", "cirrus"), cloud_fraction=0.4)
    depth, beam = scene.optical_depth, scene.sun_beam
    expected = np.where(beam < SHADOW_BEAM, 3, 0)
    expected = np.where(depth >= THIN_DEPTH, 2, expected)
    expected = np.where(depth >= THICK_DEPTH, 1, expected)
    np.testing.assert_array_equal(scene.truth, expected)
    cloudy = np.isin(scene.truth_alcd, (2, 3))
    np.testing.assert_array_equal(cloudy, np.isin(scene.truth, (1, 2)))
    np.testing.assert_array_equal(scene.truth_alcd == 4, scene.truth == 3)


def test_no_decks_leave_a_clear_sky():
    scene = simulate_scene(1, size=SMALL, decks=())
    assert (scene.truth == 0).all()
    assert (scene.sun_beam == 1).all()
    assert (simulate_scene(1, size=SMALL, cloud_fraction=0.0).truth == 0).all()


@pytest.mark.parametrize("azimuth", [0, 90, 135, 225])
def test_shadows_lie_away_from_the_sun(azimuth):
    scene = simulate_scene(
        12,
        size=256,
        pixel_m=30,
        decks=("cumulus",),
        cloud_fraction=0.06,
        sun_zenith_deg=50,
        sun_azimuth_deg=azimuth,
        biome="forest",
        bands=("B02", "B03", "B04"),
    )
    cloud = (scene.optical_depth > 1).astype(float)
    shade = (scene.sun_beam < SHADOW_BEAM).astype(float)
    # The peak of the periodic cross-correlation is how far the shadow lies from its cloud.
    spectrum = np.fft.fft2(shade - shade.mean()) * np.conj(np.fft.fft2(cloud - cloud.mean()))
    peak = np.unravel_index(np.argmax(np.fft.ifft2(spectrum).real), shade.shape)
    dy, dx = ((place + 128) % 256 - 128 for place in peak)
    away = np.array([np.cos(np.radians(azimuth)), -np.sin(np.radians(azimuth))])
    assert np.hypot(dy, dx) > 8
    assert np.dot([dy, dx], away) / np.hypot(dy, dx) > 0.9


def test_shadow_takes_more_from_near_infrared_than_from_blue():
    kept = []
    for seed in range(6):
        common = {"size": 128, "biome": "cropland", "haze": 0.1, "bands": ("B02", "B08")}
        clear = simulate_scene(seed, decks=(), **common)
        cloudy = simulate_scene(seed, decks=("cumulus",), cloud_fraction=0.25, **common)
        shade = cloudy.truth == 3
        if shade.sum() > 200:
            clear_mean, shade_mean = (
                clear.cube.mean(axis=(1, 2)),
                cloudy.cube[:, shade].mean(axis=1),
            )
            kept.append(shade_mean / clear_mean)
    assert len(kept) > 2
    blue, infrared = np.mean(kept, axis=0)
    assert infrared < 0.6
    assert blue > infrared + 0.15


def test_cirrus_band_sees_high_cloud_and_not_the_ground():
    common = {"size": 128, "bands": ("B04", "B10"), "sun_zenith_deg": 35}
    clear = simulate_scene(2, decks=(), **common).cube[1]
    high = simulate_scene(2, decks=("cirrus",), cloud_fraction=0.6, **common)
    low = simulate_scene(2, decks=("stratocumulus",), cloud_fraction=0.6, **common)
    assert np.median(clear) < 0.02
    assert high.cube[1][high.optical_depth > 1].mean() > 0.06
    assert low.cube[1][low.optical_depth > 3].mean() < 0.05


def test_thermal_bands_are_colder_under_thick_ice_than_open_ground():
    # The normalised range ends at 249 K: only cold cloud falls below 1.
    scenes = [
        simulate_scene(seed, sensor="landsat-8-9-l1", size=128, decks=("cirrus",))
        for seed in range(6)
    ]
    cold = [s.cube[s.band_names.index("B10")][s.optical_depth > 2.5] for s in scenes]
    warm = [s.cube[s.band_names.index("B10")][s.optical_depth == 0] for s in scenes]
    assert np.concatenate(cold).size > 500
    assert np.concatenate(cold).mean() < 0.95 < np.concatenate(warm).mean()


@pytest.mark.parametrize("biome", list(BIOMES))
def test_every_landscape_keeps_to_what_spectra_allow(biome):
    # At 60 m no band is coarser than the truth.
    scene = simulate_scene(
        2, size=SMALL, pixel_m=60, biome=biome, decks=(), haze=0.05, sun_zenith_deg=30
    )
    bands = dict(zip(scene.band_names, scene.cube, strict=True))
    assert scene.metadata["biome"] == biome
    water, snow = scene.truth_alcd == 6, scene.truth_alcd == 7
    if water.sum() > 200:
        assert np.median(bands["B11"][water]) < 0.1
    if snow.sum() > 200:
        index = (bands["B03"] - bands["B11"]) / (bands["B03"] + bands["B11"])
        assert np.median(index[snow]) > 0.4


def test_vegetation_water_and_snow_have_their_well_known_ratios():
    spectra = {name: dict(zip(WAVELENGTHS_NM, row, strict=True)) for name, row in SURFACES.items()}
    for name in ("crop-dense", "deciduous-summer", "conifer", "forest-tropical"):
        row = spectra[name]
        assert (row[842] - row[665]) / (row[842] + row[665]) > 0.6, name
    for name in ("soil-brown", "soil-red", "sand-desert", "soil-lime"):
        row = spectra[name]
        assert row[490] < row[560] < row[665] < row[865] < row[1610], name
    for name, row in spectra.items():
        if name.startswith("snow"):
            assert (row[560] - row[1610]) / (row[560] + row[1610]) > 0.6, name
        if name.startswith("water"):
            assert row[865] < 0.1, name
            assert row[1610] < 0.02, name
        assert all(0 <= value <= 1 for value in row.values()), name


def test_spectra_are_interpolated_between_the_tables_wavelengths():
    row = SURFACES["conifer"]
    np.testing.assert_allclose(band_spectra(["conifer"], WAVELENGTHS_NM)[0], row, rtol=1e-6)
    middle = band_spectra(["conifer"], [(490 + 560) / 2])[0, 0]
    assert middle == pytest.approx((row[1] + row[2]) / 2)


def test_clouds_reflect_more_the_thicker_and_never_more_than_they_get():
    wavelengths = (490, 1610, 2190)
    # Water absorbs more at 2.2 than at 1.6 µm; ice, in snow as in cloud, a little less.
    for particles, order in ((droplets(wavelengths), (1, 2)), (ice_crystals(wavelengths), (2, 1))):
        optics = layer_optics(particles, 0.8)
        assert (np.diff(optics.reflected, axis=1) >= -1e-6).all()
        total = optics.reflected + optics.image + optics.veiled
        assert total.max() <= 1 + 1e-5
        np.testing.assert_allclose(total[0], 1, atol=1e-3)  # hardly any absorption in the blue
        thick = optics.reflected[:, -1]
        assert thick[0] > 0.8 > thick[order[0]] > thick[order[1]]


@pytest.mark.parametrize("kind", list(DECK_KINDS))
def test_decks_cover_about_what_is_asked(kind):
    rng = np.random.default_rng(3)
    small, large = (
        np.mean([(build_deck(kind, rng, (128, 128), 30.0, c).depth > 0).mean() for _ in range(4)])
        for c in (0.1, 0.6)
    )
    assert small < large
    assert large == pytest.approx(0.6, abs=0.25)


@pytest.mark.parametrize(
    "kind", ["cumulus", "stratocumulus", "stratus", "nimbostratus", "tower", "anvil"]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cover_of_one_is_cloud_from_edge_to_edge(kind, seed):
    scene = simulate_scene(
        seed, size=SMALL, pixel_m=30, decks=(kind,), cloud_fraction=1, bands=("B03",), saturation=9
    )
    assert np.isin(scene.truth, (1, 2)).mean() > 0.99
    assert scene.cube.std() > 0.001


def test_drawn_skies_are_clear_overcast_and_everything_between():
    shares = [
        np.isin(simulate_scene(seed, size=64, pixel_m=60, bands=("B03",)).truth, (1, 2)).mean()
        for seed in range(120)
    ]
    counts, _ = np.histogram(shares, bins=(0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.01))
    assert counts.min() >= 6
    assert sum(share == 0 for share in shares) >= 4
    assert sum(share == 1 for share in shares) >= 8


def test_ice_cloud_is_darker_than_water_cloud_in_the_short_wave_infrared():
    bands = ("B04", "B10", "B11")
    ratio = {}
    for kind in ("anvil", "stratus"):
        cubes = [
            simulate_scene(
                seed, size=SMALL, pixel_m=30, bands=bands, decks=(kind,), cloud_fraction=1
            ).cube.mean(axis=(1, 2))
            for seed in range(4)
        ]
        mean = np.mean(cubes, axis=0)
        ratio[kind] = mean[2] / mean[0]
        assert (mean[1] > 0.1) == (kind == "anvil")
    assert ratio["anvil"] < 0.7 * ratio["stratus"]


def test_smoke_hides_the_ground_in_blue_and_is_no_cloud():
    arguments = {"size": SMALL, "biome": "forest", "cloud_fraction": 0, "bands": ("B02", "B11")}
    clear, smoky = (simulate_scene(6, smoke=smoke, **arguments) for smoke in (0.0, 3.0))
    assert (clear.smoke_depth == 0).all()
    assert smoky.smoke_depth.max() > 1
    assert (smoky.truth == 0).all()
    thick = smoky.smoke_depth > 1
    change = (smoky.cube - clear.cube)[:, thick].mean(axis=1)
    assert change[0] > 0.03
    assert abs(change[1]) < 0.03


def test_nothing_is_brighter_than_where_the_sensor_saturates():
    arguments = {"size": SMALL, "decks": ("tower",), "cloud_fraction": 1.0}
    open_, cut = (simulate_scene(2, saturation=level, **arguments) for level in (9.0, 0.4))
    assert open_.cube.max() > 0.6
    assert cut.cube.max() == pytest.approx(0.4)


def test_the_cirrus_band_sees_an_ice_sheet_through_dry_air():
    arguments = {"size": SMALL, "cloud_fraction": 0, "bands": ("B02", "B10", "B11")}
    seen = {
        biome: [
            simulate_scene(seed, biome=biome, **arguments).cube.mean(axis=(1, 2))
            for seed in range(6)
        ]
        for biome in ("ice-sheet", "salt")
    }
    assert max(mean[1] for mean in seen["ice-sheet"]) > 0.08
    assert max(mean[1] for mean in seen["salt"]) < 0.05
    assert min(mean[0] for mean in seen["ice-sheet"]) > 0.3


def test_houses_throw_shadows():
    grid = np.zeros((40, 40), np.float32)
    grid[18:22, 18:22] = 30
    surface = Surface(
        reflectance=np.full((1, 40, 40), 0.2, np.float32),
        kind=np.zeros((40, 40), np.uint8),
        slope_yx=(np.zeros((40, 40), np.float32), np.zeros((40, 40), np.float32)),
        warmth=np.zeros((40, 40), np.float32),
        building_m=grid,
    )
    geometry = Geometry(
        sun_zenith_deg=60,
        sun_azimuth_deg=180,
        view_zenith_deg=0,
        view_azimuth_deg=0,
        pixel_m=10,
    )
    light = slope_light(surface, geometry)
    assert (light[grid > 0] == 1).all()
    dark = np.argwhere(light == 0)
    assert len(dark) >= 12
    assert dark[:, 0].max() < 18
    assert set(dark[:, 1]) == {18, 19, 20, 21}


def test_depth_steps_rise_with_depth_and_stay_in_the_tables():
    count = layer_optics(droplets((490,)), 0.5).reflected.shape[1]
    steps = depth_steps(np.array([0, 0.1, 1, 10, 120, 5000], np.float32))
    assert steps[0] == 0
    assert (np.diff(steps.astype(int)) >= 0).all()
    assert steps[-1] < count


def test_noise_has_unit_variance_and_falls_off_as_its_spectrum_says():
    rng = np.random.default_rng(1)
    field = fractal_noise(rng, (256, 256), outer_px=1000, beta=3.0)
    assert field.std() == pytest.approx(1, abs=1e-3)
    power = np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    low, high = (power[(radius > a) & (radius < 1.2 * a)].mean() for a in (0.04, 0.16))
    assert np.log(low / high) / np.log(4) == pytest.approx(3.0, abs=0.5)


def test_no_data_beyond_the_swath():
    scene = simulate_scene(1, size=SMALL, nodata_fraction=0.3)
    nodata = np.isnan(scene.cube[0])
    assert nodata.mean() == pytest.approx(0.3, abs=0.05)
    assert (np.isnan(scene.cube) == nodata).all()
    assert (scene.truth[nodata] == 255).all()
    assert (scene.truth_alcd[nodata] == 0).all()
    assert (scene.truth[~nodata] < 4).all()


def test_clouds_are_shifted_between_bands_and_the_ground_is_not():
    scene = simulate_scene(
        5, size=256, decks=("cirrus",), cloud_fraction=0.5, bands=("B02", "B8A"), biome="desert"
    )
    first, last = scene.cube
    assert scene.optical_depth.max() > 0.3

    def lag(a, b):
        spectrum = np.fft.fft2(a - a.mean()) * np.conj(np.fft.fft2(b - b.mean()))
        row, _ = np.unravel_index(np.argmax(np.fft.ifft2(spectrum).real), a.shape)
        return (row + 128) % 256 - 128

    depth = scene.optical_depth
    assert lag(last, depth) - lag(first, depth) > 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sensor": "nimbus"}, SensorError, "unknown sensor"),
        ({"biome": "moon"}, OptionError, "unknown biome"),
        ({"decks": ("fluff",)}, OptionError, "unknown cloud deck"),
        ({"cloud_fraction": 1.5}, OptionError, "expected 0 to 1"),
        ({"sun_zenith_deg": 95}, OptionError, "expected 0 to 85"),
        ({"nodata_fraction": 1.0}, OptionError, "nodata_fraction"),
        ({"smoke": -1.0}, OptionError, "optical depth of 0 or more"),
        ({"saturation": 0.0}, OptionError, "reflectance above 0"),
        ({"size": 3}, OptionError, "at least 8"),
        ({"bands": ("B99",)}, BandError, "B99"),
        ({"bands": ()}, BandError, "empty"),
        ({"sensor": "landsat-8-9-l1", "bands": ("B10",)}, BandError, "thermal"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        simulate_scene(1, **{"size": 32, **arguments})


@pytest.mark.slow
def test_a_full_scene_takes_under_a_second_of_processor_time():
    simulate_scene(1)
    started = time.process_time()
    for seed in (2, 3, 4):
        simulate_scene(seed)
    assert (time.process_time() - started) / 3 < 1.0
