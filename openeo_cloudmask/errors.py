"""Errors of the package: one base class, a leaf for each kind of fault that a user can mend.

Each leaf carries the ``code`` that the openEO back end answers with; where the openEO API
defines a code that fits, that one is used.
"""

from __future__ import annotations


class CloudMaskError(Exception):
    """Base of all errors raised on purpose; ``code`` is the openEO error code."""

    code = "Internal"


class InputError(CloudMaskError, ValueError):
    """Data or metadata that cannot be masked as given (empty, wrong type, looks like DN)."""

    code = "CloudMaskInputInvalid"


class BandError(InputError):
    """Bands are missing, duplicated or unknown."""

    code = "CloudMaskBandsInvalid"


class OptionError(CloudMaskError, ValueError):
    """An option has an unknown name or a value that is not allowed."""

    code = "ProcessParameterInvalid"


class UnknownModelError(OptionError):
    """No model of that name is in the registry."""

    code = "CloudMaskModelUnknown"


class SensorError(InputError):
    """A sensor is unknown or its description is incomplete."""

    code = "CloudMaskSensorInvalid"


class WeightsError(CloudMaskError, ValueError):
    """Weights are missing, damaged or belong to another network."""

    code = "CloudMaskWeightsInvalid"


PUBLISHED = False
"""Whether a package registry has the package; ``docs/release.md`` says what changes on that day."""


def install_command(*extras: str) -> str:
    """Return the pip command that installs the package with ``extras``.

    Before publication it is run in a checkout of the repository.
    """
    names = f"[{','.join(extras)}]" if extras else ""
    return f'pip install "{"openeo-cloudmask" if PUBLISHED else "."}{names}"' + (
        "" if PUBLISHED else "  (in a checkout of openeo-cloudmask)"
    )


class MissingExtraError(CloudMaskError, ImportError):
    """An optional dependency is not installed; the message holds the pip line."""

    code = "CloudMaskExtraMissing"

    @classmethod
    def for_extra(cls, extra: str, needed_for: str) -> MissingExtraError:
        """Return the error that tells how to install ``extra``."""
        return cls(
            f"{needed_for} needs the extra {extra!r}, which is not installed. "
            f"Install it with: {install_command(extra)}"
        )


class ProductError(InputError):
    """A raster file or satellite product cannot be read as what it claims to be."""

    code = "CloudMaskProductInvalid"


class OutputError(CloudMaskError, OSError):
    """A result cannot be written where it was asked for."""

    code = "CloudMaskOutputInvalid"


class ReferenceDataError(InputError):
    """A reference data set is incomplete or cannot be compared with the mask."""

    code = "CloudMaskReferenceInvalid"


class CatalogError(CloudMaskError, ValueError):
    """A STAC object does not say what is needed to run the model it describes."""

    code = "CloudMaskCatalogInvalid"


class BackendError(CloudMaskError):
    """A request to an openEO back end failed, or the back end refuses it."""

    code = "Internal"
