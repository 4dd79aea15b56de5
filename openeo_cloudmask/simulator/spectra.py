"""Reflectance of surfaces, scattering of cloud particles and of air, as tables.

Every row is a rounded, typical curve for its kind of surface, drawn after the shapes and levels in
the published libraries named here; none is a copy of one measured sample. The simulator varies
brightness, slope and mixture around them.

- vegetation, soils, rocks: ECOSTRESS spectral library (Baldridge et al., 2009, Remote Sens.
  Environ. 113; Meerdink et al., 2019, Remote Sens. Environ. 230), USGS Spectral Library Version 7
  (Kokaly et al., 2017, Data Series 1035), Bowker et al. (1985, NASA RP-1139);
- urban materials: Kotthaus et al. (2014, ISPRS J. Photogramm. 94);
- water: Lee et al. (1999, Appl. Opt. 38) and Doxaran et al. (2002, Remote Sens. Environ. 81);
- snow and ice: Wiscombe and Warren (1980, J. Atmos. Sci. 37), Warren and Brandt (2008, J. Geophys.
  Res. 113), Zeng et al. (1984, Ann. Glaciol. 5);
- cloud particles: Nakajima and King (1990, J. Atmos. Sci. 47), Baum et al. (2005, J. Appl.
  Meteorol. 44);
- air: Bodhaine et al. (1999, J. Atmos. Oceanic Technol. 16) for Rayleigh optical depth.
"""

# ruff: noqa: E501 - the table is read by its columns
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

WAVELENGTHS_NM = (443, 490, 560, 665, 705, 740, 783, 842, 865, 945, 1375, 1610, 2190)

# fmt: off
SURFACES: dict[str, tuple[float, ...]] = {
    # name               443   490   560   665   705   740   783   842   865   945  1375  1610  2190
    "crop-dense":       (.025, .030, .070, .035, .10,  .32,  .42,  .45,  .46,  .44,  .30,  .22,  .10),
    "crop-open":        (.035, .045, .085, .060, .13,  .31,  .37,  .40,  .41,  .40,  .30,  .25,  .14),
    "grass-green":      (.030, .040, .080, .060, .13,  .28,  .33,  .36,  .37,  .37,  .30,  .25,  .14),
    "grass-dry":        (.070, .090, .13,  .18,  .21,  .24,  .26,  .28,  .29,  .31,  .34,  .36,  .27),
    "stubble":          (.080, .11,  .16,  .22,  .25,  .27,  .29,  .31,  .32,  .34,  .37,  .39,  .30),
    "deciduous-summer": (.018, .022, .045, .025, .070, .26,  .35,  .38,  .39,  .38,  .28,  .18,  .080),
    "deciduous-autumn": (.030, .040, .070, .090, .14,  .22,  .25,  .27,  .28,  .29,  .27,  .24,  .14),
    "deciduous-bare":   (.040, .050, .070, .090, .11,  .14,  .16,  .18,  .19,  .20,  .22,  .22,  .15),
    "conifer":          (.015, .018, .032, .022, .045, .13,  .17,  .19,  .20,  .20,  .15,  .10,  .045),
    "forest-tropical":  (.015, .020, .040, .022, .060, .22,  .30,  .33,  .34,  .33,  .25,  .15,  .060),
    "shrub":            (.050, .060, .090, .10,  .14,  .20,  .22,  .24,  .25,  .26,  .28,  .29,  .20),
    "tundra":           (.030, .040, .060, .070, .10,  .15,  .18,  .20,  .21,  .22,  .22,  .20,  .12),
    "wetland":          (.020, .025, .045, .030, .060, .18,  .24,  .27,  .27,  .24,  .15,  .090, .040),
    "paddy":            (.050, .060, .080, .070, .080, .10,  .11,  .11,  .10,  .080, .040, .030, .015),
    "soil-dark":        (.030, .035, .045, .060, .070, .080, .085, .095, .10,  .11,  .13,  .15,  .12),
    "soil-moist":       (.040, .050, .070, .10,  .11,  .125, .135, .15,  .155, .165, .18,  .19,  .14),
    "soil-brown":       (.060, .075, .105, .145, .165, .18,  .195, .215, .22,  .24,  .28,  .31,  .27),
    "soil-light":       (.10,  .13,  .18,  .24,  .265, .285, .305, .325, .335, .355, .40,  .44,  .39),
    "soil-red":         (.040, .045, .075, .17,  .21,  .24,  .255, .26,  .265, .28,  .34,  .38,  .34),
    "soil-lime":        (.18,  .22,  .29,  .36,  .38,  .40,  .42,  .44,  .45,  .46,  .50,  .53,  .47),
    "sand-desert":      (.12,  .15,  .24,  .36,  .40,  .43,  .45,  .47,  .48,  .49,  .54,  .57,  .53),
    "sand-red":         (.060, .075, .14,  .29,  .34,  .37,  .39,  .40,  .405, .42,  .48,  .52,  .49),
    "sand-beach":       (.30,  .35,  .42,  .47,  .49,  .51,  .52,  .53,  .53,  .53,  .55,  .54,  .45),
    "sand-gypsum":      (.55,  .60,  .66,  .70,  .71,  .72,  .73,  .73,  .73,  .70,  .62,  .55,  .35),
    "basalt":           (.040, .045, .050, .055, .060, .062, .065, .068, .070, .072, .080, .085, .080),
    "granite":          (.12,  .14,  .17,  .20,  .21,  .22,  .23,  .24,  .245, .25,  .28,  .29,  .27),
    "limestone":        (.22,  .25,  .30,  .34,  .35,  .36,  .37,  .38,  .385, .39,  .42,  .43,  .37),
    "burn-scar":        (.030, .035, .040, .050, .055, .060, .065, .075, .080, .090, .12,  .15,  .14),
    "salt-dry":         (.40,  .45,  .51,  .56,  .57,  .58,  .59,  .59,  .59,  .57,  .50,  .45,  .36),
    "salt-damp":        (.25,  .29,  .34,  .38,  .39,  .39,  .39,  .38,  .38,  .35,  .22,  .18,  .10),
    "asphalt-old":      (.070, .080, .095, .11,  .115, .12,  .125, .13,  .13,  .135, .15,  .155, .15),
    "asphalt-new":      (.040, .042, .045, .050, .050, .052, .054, .055, .056, .058, .065, .070, .070),
    "concrete":         (.18,  .21,  .25,  .28,  .29,  .30,  .305, .31,  .31,  .315, .34,  .35,  .32),
    "roof-tile":        (.060, .070, .10,  .22,  .26,  .28,  .30,  .31,  .315, .33,  .38,  .40,  .38),
    "roof-white":       (.45,  .60,  .66,  .68,  .68,  .67,  .66,  .65,  .65,  .62,  .55,  .52,  .40),
    "roof-metal":       (.35,  .38,  .40,  .42,  .42,  .42,  .42,  .42,  .42,  .43,  .45,  .46,  .45),
    "roof-gravel":      (.13,  .15,  .18,  .21,  .22,  .225, .23,  .235, .24,  .245, .27,  .28,  .27),
    "greenhouse":       (.30,  .34,  .38,  .40,  .41,  .43,  .45,  .46,  .46,  .43,  .35,  .33,  .20),
    "water-ocean":      (.035, .025, .012, .004, .003, .002, .002, .0015, .001, .001, .0005, .0005, .0003),
    "water-coastal":    (.030, .035, .040, .015, .012, .006, .006, .005, .004, .002, .0008, .0008, .0005),
    "water-green":      (.020, .025, .050, .025, .035, .015, .014, .010, .009, .004, .001, .001, .0005),
    "water-turbid":     (.050, .065, .10,  .090, .090, .050, .045, .035, .030, .012, .003, .003, .002),
    "water-muddy":      (.070, .090, .14,  .18,  .18,  .13,  .12,  .10,  .090, .040, .010, .008, .005),
    "water-dark":       (.008, .009, .012, .010, .010, .007, .006, .005, .005, .003, .001, .001, .0005),
    "water-lagoon":     (.12,  .16,  .18,  .060, .030, .015, .015, .012, .010, .004, .001, .001, .001),
    "snow-polar":       (.98,  .98,  .97,  .96,  .955, .95,  .94,  .93,  .92,  .87,  .52,  .24,  .25),
    "snow-fine":        (.97,  .97,  .96,  .95,  .945, .94,  .92,  .91,  .90,  .84,  .45,  .20,  .21),
    "snow-medium":      (.95,  .95,  .94,  .91,  .90,  .89,  .86,  .83,  .82,  .72,  .25,  .070, .075),
    "snow-old":         (.80,  .81,  .80,  .76,  .74,  .72,  .66,  .60,  .58,  .42,  .080, .020, .015),
    "snow-dirty":       (.50,  .52,  .54,  .53,  .52,  .51,  .48,  .45,  .44,  .34,  .10,  .040, .030),
    "ice-glacier":      (.55,  .60,  .58,  .46,  .40,  .34,  .27,  .22,  .20,  .12,  .020, .010, .010),
    "ice-sea":          (.25,  .27,  .26,  .22,  .20,  .18,  .16,  .14,  .13,  .090, .020, .010, .010),
}
"""Hemispherical reflectance, 0-1, at ``WAVELENGTHS_NM``."""

# Share of light that is absorbed at each scattering, at WAVELENGTHS_NM.
_ABSORB_WATER = (0, 0, 0, 0, 0, 0, 0, 1e-5, 2e-5, 1e-4, 5e-3, 5.5e-3, 2e-2)
_ABSORB_ICE = (0, 0, 0, 0, 0, 0, 0, 5e-5, 6e-5, 2e-4, 3e-2, 4.5e-2, 3.5e-2)
# Two-way transmission of water vapour, ozone and oxygen for a sun overhead and mid-latitude air.
_GAS = (.99, .98, .93, .95, .96, .95, .98, .95, .99, .45, .006, .97, .95)
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """How cloud particles scatter at the bands of a sensor."""

    absorbed: Floats
    """(band,) float32, 1 - single scattering albedo."""
    asymmetry: float
    """Mean cosine of the scattering angle."""
    forward: float
    """Share of the scattered light that goes on so straight that it still draws an image."""


def band_spectra(names: Sequence[str], centres_nm: Sequence[float]) -> Floats:
    """Return the reflectance of the surfaces called ``names`` at wavelengths.

    Returns:
        (surface, band) float32, reflectance 0-1; held constant beyond the table's ends.
    """
    rows = [np.interp(centres_nm, WAVELENGTHS_NM, SURFACES[name]) for name in names]
    return np.asarray(rows, np.float32)


def droplets(centres_nm: Sequence[float], size: float = 1.0) -> Particles:
    """Return droplets of an effective radius of 10 um, with ``size`` times their absorption."""
    absorbed = np.interp(centres_nm, WAVELENGTHS_NM, _ABSORB_WATER) * size
    return Particles(absorbed=absorbed.astype(np.float32), asymmetry=0.85, forward=0.5)


def ice_crystals(centres_nm: Sequence[float], size: float = 1.0) -> Particles:
    """Return cirrus crystals whose absorption is ``size`` times the table's."""
    absorbed = np.interp(centres_nm, WAVELENGTHS_NM, _ABSORB_ICE) * size
    return Particles(absorbed=absorbed.astype(np.float32), asymmetry=0.78, forward=0.6)


def gas_transmission(centres_nm: Sequence[float]) -> Floats:
    """Return (band,) float32, two-way transmission of the gases down to the ground."""
    return np.interp(centres_nm, WAVELENGTHS_NM, _GAS).astype(np.float32)


def rayleigh_depth(centres_nm: Sequence[float]) -> Floats:
    """Return (band,) float32, optical depth of air at sea level (about 0.0088 λ^-4.05, λ in µm)."""
    micrometres = np.asarray(centres_nm) / 1000.0
    return (0.0088 * micrometres**-4.05).astype(np.float32)


def aerosol_depth(centres_nm: Sequence[float], depth_550: float, angstrom: float) -> Floats:
    """Return (band,) float32, optical depth of haze by Ångström's law."""
    return (depth_550 * (np.asarray(centres_nm) / 550.0) ** -angstrom).astype(np.float32)
