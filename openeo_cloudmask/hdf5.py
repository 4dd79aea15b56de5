"""Untrusted HDF5 files: what they hold, as long as it is in the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openeo_cloudmask.errors import InputError

_MOST_OBJECTS = 100_000


def own_arrays(group: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - h5py has no types
    """Yield (path in the file, ``h5py.Dataset``) of all arrays in a group and its groups.

    HDF5 can keep the values of an array in other files, and can link to other files: whoever may
    have a file opened could have any file of the machine read. Groups may hold each other: each
    object is visited once.

    Raises:
        InputError: something takes its values from elsewhere, or there are too many objects. The
            message goes on after the file's name.
    """
    import h5py

    waiting, seen = [group], {group.id}
    while waiting:
        within = waiting.pop()
        for name in within:
            place = f"{within.name}/{name}".replace("//", "/")
            if not isinstance(within.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"holds {place}, a link; expected a file of its own values")
            item = within[name]
            if item.id in seen:
                continue
            seen.add(item.id)
            if len(seen) > _MOST_OBJECTS:
                raise InputError(f"holds more than {_MOST_OBJECTS} groups and arrays")
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise InputError(
                        f"takes {place} from other files; expected a file of its own values"
                    )
                yield place, item
