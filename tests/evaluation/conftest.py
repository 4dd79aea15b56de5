"""References made in memory."""

from tests.alcd_scenes import archive, make_scene

__all__ = ["archive", "make_scene"]
