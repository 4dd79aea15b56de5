"""Kinds of landscape that scenes are simulated of, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Biome:
    """What a kind of landscape is made of; shares are upper limits, drawn from 0 up."""

    natural: tuple[str, ...]
    crops: tuple[str, ...] = ()
    woods: tuple[str, ...] = ()
    water: tuple[str, ...] = ("water-green", "water-turbid", "water-dark")
    fields: float = 0.0
    wood: float = 0.0
    lakes: float = 0.05
    sea: float = 0.0
    """Chance that a coast crosses the scene."""
    town: float = 0.02
    snow: float = 0.0
    """Chance of snow."""
    relief_m: float = 30.0
    altitude_m: float = 800.0
    """Height above the sea, up to."""
    moisture: tuple[float, float] = (0.4, 1.6)
    """Water vapour, 1 is the air of mid-latitudes in summer."""
    sun_zenith_deg: tuple[float, float] = (15.0, 75.0)
    glint: float = 0.15
    """Chance that water mirrors the sun."""
    weight: float = 1.0


_CROPS = (
    "crop-dense",
    "crop-open",
    "stubble",
    "soil-brown",
    "soil-moist",
    "soil-dark",
    "grass-green",
)
BIOMES: dict[str, Biome] = {
    "cropland": Biome(
        natural=("grass-green", "stubble", "soil-brown"),
        crops=(*_CROPS, "soil-light"),
        woods=("deciduous-summer", "conifer", "deciduous-autumn"),
        fields=0.95,
        wood=0.3,
        town=0.06,
        relief_m=40,
        weight=3.0,
    ),
    "cropland-winter": Biome(
        natural=("grass-dry", "soil-moist", "deciduous-bare"),
        crops=("soil-moist", "soil-dark", "stubble", "grass-dry", "crop-open", "soil-brown"),
        woods=("deciduous-bare", "conifer"),
        fields=0.9,
        wood=0.3,
        town=0.05,
        snow=0.25,
        weight=1.5,
    ),
    "forest": Biome(
        natural=("grass-green", "shrub", "deciduous-summer"),
        crops=("crop-open", "grass-green", "soil-brown"),
        woods=("conifer", "deciduous-summer", "deciduous-autumn"),
        fields=0.35,
        wood=0.9,
        lakes=0.08,
        town=0.02,
        relief_m=200,
        weight=2.5,
    ),
    "tropical": Biome(
        natural=("forest-tropical", "grass-green", "soil-red"),
        crops=("crop-dense", "soil-red", "grass-green", "grass-dry"),
        woods=("forest-tropical", "forest-tropical", "wetland"),
        water=("water-muddy", "water-turbid", "water-dark"),
        fields=0.4,
        wood=0.9,
        lakes=0.1,
        relief_m=100,
        weight=1.5,
    ),
    "savanna": Biome(
        natural=("grass-dry", "shrub", "soil-red", "burn-scar", "soil-brown"),
        crops=("grass-dry", "soil-red", "crop-open"),
        woods=("shrub", "deciduous-bare"),
        fields=0.3,
        wood=0.4,
        relief_m=60,
        weight=1.2,
    ),
    "desert": Biome(
        natural=(
            "sand-desert",
            "soil-lime",
            "sand-red",
            "granite",
            "basalt",
            "limestone",
            "soil-light",
        ),
        crops=("crop-dense", "soil-light", "crop-open"),
        water=("water-green", "water-lagoon"),
        fields=0.15,
        lakes=0.01,
        relief_m=250,
        weight=1.5,
    ),
    "salt": Biome(
        natural=("salt-dry", "salt-damp", "soil-light", "sand-gypsum", "sand-desert"),
        water=("water-lagoon", "water-turbid", "water-dark"),
        lakes=0.1,
        town=0.0,
        relief_m=20,
        weight=0.6,
    ),
    "mountain": Biome(
        natural=("granite", "tundra", "limestone", "grass-green"),
        woods=("conifer", "deciduous-summer", "deciduous-bare"),
        crops=("grass-green", "crop-open"),
        fields=0.1,
        wood=0.7,
        snow=0.7,
        relief_m=1500,
        altitude_m=4000,
        moisture=(0.15, 1.2),
        weight=1.6,
    ),
    "taiga-winter": Biome(
        natural=("snow-medium", "snow-fine", "snow-old"),
        crops=("snow-fine", "snow-medium", "snow-dirty"),
        woods=("conifer", "deciduous-bare", "conifer"),
        water=("snow-fine", "ice-sea", "water-dark"),
        fields=0.4,
        wood=0.95,
        relief_m=150,
        moisture=(0.08, 0.6),
        sun_zenith_deg=(45, 80),
        weight=0.8,
    ),
    "ice-sheet": Biome(
        natural=("snow-polar", "snow-fine"),
        lakes=0.0,
        town=0.0,
        relief_m=8,
        altitude_m=4000,
        moisture=(0.02, 0.3),
        sun_zenith_deg=(50, 80),
        weight=1.2,
    ),
    "ocean": Biome(
        natural=("water-ocean", "water-coastal", "water-turbid", "water-muddy", "water-green"),
        water=("water-ocean", "water-coastal", "water-turbid"),
        lakes=0.0,
        town=0.0,
        relief_m=0.0,
        altitude_m=0.0,
        glint=0.35,
        weight=1.0,
    ),
    "arctic": Biome(
        natural=("tundra", "granite", "snow-medium", "ice-glacier"),
        water=("water-ocean", "ice-sea", "water-dark"),
        lakes=0.15,
        town=0.0,
        sea=0.3,
        snow=0.9,
        relief_m=300,
        moisture=(0.08, 0.7),
        sun_zenith_deg=(40, 80),
        weight=1.0,
    ),
    "city": Biome(
        natural=("grass-green", "soil-brown", "concrete"),
        crops=("crop-open", "grass-green", "soil-light", "stubble"),
        woods=("deciduous-summer", "conifer"),
        fields=0.4,
        wood=0.2,
        town=0.8,
        sea=0.2,
        weight=1.4,
    ),
    "coast": Biome(
        natural=("grass-green", "shrub", "sand-beach", "soil-light"),
        crops=("crop-open", "paddy", "greenhouse", "soil-brown"),
        woods=("deciduous-summer", "conifer", "wetland"),
        water=("water-ocean", "water-coastal", "water-turbid", "water-lagoon"),
        fields=0.5,
        wood=0.3,
        town=0.15,
        sea=1.0,
        relief_m=150,
        weight=1.2,
    ),
    "wetland": Biome(
        natural=("wetland", "grass-green", "paddy"),
        crops=("paddy", "crop-dense", "paddy", "water-turbid"),
        woods=("wetland", "deciduous-summer"),
        water=("water-turbid", "water-dark", "water-muddy", "water-green"),
        fields=0.6,
        wood=0.4,
        lakes=0.3,
        weight=0.8,
    ),
}
