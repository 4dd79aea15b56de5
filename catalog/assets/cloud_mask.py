# /// script
# requires-python = ">=3.11"
# ///
"""Cloud and cloud-shadow mask of a datacube, as an openEO user-defined function.

In: a datacube with the dimensions ``bands``, ``y``, ``x`` and optionally ``t``, in any order.
Out: the same ``t``, ``y``, ``x`` with one band ``mask`` (uint8 class values, 255 is no-data), or,
with ``categorise: false``, one band of percentages (uint8, 0-100, 255 is no-data) for each class.

The context holds the options of the process, which ``cloudmask udf --options`` lists; all may be
left out. A further key, ``neighborhood``, says in which size and overlap the UDF is called: what
lies in the overlap is then not computed.

The header names no dependencies: back ends would install them at the start of each job. The package
is installed there, or comes in the archive that `cloudmask bundle` makes.
"""

import os
import sys

import xarray

# The folder into which a back end unpacks the archive that `cloudmask bundle` makes, where a job's
# options name it: {"udf-dependency-archives": ["https://.../bundle.zip#cloudmask_deps"]}.
SHIPPED = "cloudmask_deps"

# Labels of the bands where `categorise` is false. They stand here because back ends call
# `apply_metadata` where the package is not available; the tests hold them to the package's tables.
LABELS = {
    "4-class": ["clear", "thick-cloud", "thin-cloud", "cloud-shadow"],
    "cloud-noncloud": ["non-cloud", "cloud"],
    "valid-invalid": ["valid", "invalid"],
    "hollstein-6-class": ["clear", "water", "snow", "cirrus", "cloud", "cloud-shadow"],
    "sensei-7-class": [
        *("land", "water", "snow", "thin-cloud", "thick-cloud", "cloud-shadow", "no-data"),
    ],
}
_SCL = [
    *("no-data", "saturated-or-defective", "dark-area", "cloud-shadow", "vegetation", "bare-soil"),
    *("water", "unclassified", "cloud-medium", "cloud-high", "cirrus", "snow"),
]
# Classes of the style `native`, of models whose own are not `4-class`.
NATIVE = {
    **dict.fromkeys(
        ("hollstein", "msk-classi", "qa-pixel", "hls-fmask", "maja"), LABELS["hollstein-6-class"]
    ),
    **dict.fromkeys(
        (
            "senseiv2",
            "senseiv2-segformerb2-alldata-ambiguous",
            "senseiv2-segformerb2-s2-ambiguous",
        ),
        LABELS["sensei-7-class"],
    ),
    **dict.fromkeys(("scl", "sen2cor"), _SCL),
    "fmask-4": ["land", "water", "cloud-shadow", "snow", "cloud"],
}


# The annotations must be types, not texts: openeo.udf finds the function by them. For the same
# reason this function stands before `run_legacy`: openeo.udf takes the first that fits.
def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:
    """Return the mask of ``cube``."""
    _find_shipped()
    from openeo_cloudmask.datacube import mask_datacube
    from openeo_cloudmask.options import parse_udf_context

    options, neighborhood = parse_udf_context(context)
    return mask_datacube(cube, options, neighborhood=neighborhood)


def apply_metadata(metadata, context: dict):  # noqa: ANN001, ANN201 - back ends pass their own class
    """Return ``metadata`` with the band labels that ``apply_datacube`` gives."""
    given = {key: value for key, value in (context or {}).items() if value is not None}
    labels = ["mask"]
    if not given.get("categorise", True):
        style = given.get("output_style", "4-class")
        named = LABELS
        if style == "native":
            own = NATIVE.get(str(given.get("model", "")).strip().lower(), LABELS["4-class"])
            named = {**LABELS, style: own}
        if style not in named:
            raise ValueError(f"output_style is {style!r}; expected one of {', '.join(LABELS)}")
        labels = named[style]
    return metadata.rename_labels(dimension=metadata.band_dimension.name, target=labels)


def run_legacy(data: "openeo_udf.api.udf_data.UdfData"):  # noqa: ANN201, F821 - may not be installed
    """Mask the cubes in ``data`` in place, for the ``openeo_udf`` package (to 1.0.0rc3).

    That package calls ``apply_datacube`` only with its own DataCube class, and returns its input
    unchanged where it finds no function to call.
    """
    cubes = data.get_datacube_list()
    masks = [apply_datacube(cube.get_array(), data.user_context) for cube in cubes]
    data.set_datacube_list([type(cube)(mask) for cube, mask in zip(cubes, masks, strict=True)])


def _find_shipped() -> None:
    """Make packages and weights that were shipped with the job known, once."""
    folder = os.path.abspath(SHIPPED)  # noqa: PTH100 - no import beyond what is needed
    if not os.path.isdir(folder):  # noqa: PTH112
        return
    if folder not in sys.path:
        sys.path.insert(0, folder)
    weights = os.path.join(folder, "cloudmask_weights")  # noqa: PTH118
    if os.path.isdir(weights):  # noqa: PTH112
        os.environ.setdefault("OPENEO_CLOUDMASK_WEIGHTS", weights)
