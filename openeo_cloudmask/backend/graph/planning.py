"""From what a client sent to a run: everything is checked before any work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openeo_cloudmask.backend.api.accounts import ProcessStore
from openeo_cloudmask.backend.api.errors import ApiError
from openeo_cloudmask.backend.cubes.collections import CollectionStore
from openeo_cloudmask.backend.graph.own_masks import with_own_masks
from openeo_cloudmask.backend.graph.remote import RemoteProcesses
from openeo_cloudmask.backend.graph.validate import (
    Lookup,
    is_address,
    library_key,
    nodes_of,
    parse_parameters,
    parse_process,
    validate_process,
)
from openeo_cloudmask.backend.jobs.runtime import RunSpec
from openeo_cloudmask.backend.jobs.tasks import GraphRequest
from openeo_cloudmask.backend.settings import Settings
from openeo_cloudmask.errors import CloudMaskError
from openeo_cloudmask.models.entry import ModelEntry
from openeo_cloudmask.products.xyz import margin_px

MAX_LIBRARY = 200
TILEABLE = (
    "load_collection", "load_stac", "filter_bands", "filter_temporal", "cloud_mask",
    "cloud_detection", "load_ml_model", "load_stac_ml", "ml_predict", "predict_onnx",
    "save_result",
)  # fmt: skip
"""Processes whose pixels depend on those under them, and on what a model looks at around."""
_NEIGHBOURLY = ("buffer", "min_area")
_MODEL_KEYS = ("model", "method", "uri")
_MASKS = ("cloud_mask", "ml_predict", "run_udf")
"""Processes whose results have one byte per pixel."""


class Planner:
    """Checks processes and makes runs of them."""

    def __init__(
        self, settings: Settings, collections: CollectionStore, processes: ProcessStore
    ) -> None:
        self._settings = settings
        self._collections = collections
        self._processes = processes

    def validate(
        self, user_id: str, process: object, remote: RemoteProcesses | None = None
    ) -> list[ApiError]:
        """Return everything that is wrong with a process.

        Args:
            user_id: whose process it is.
            process: what the client sent.
            remote: reads processes at addresses; None for one of its own.

        Raises:
            ApiError: it has not even the form of a process.
        """
        remote = remote or self._remote()
        parsed = parse_process(process)
        errors = validate_process(
            parsed, self._lookup(user_id, remote), max_nodes=self._settings.max_graph_nodes
        )
        return errors or self._check_content(user_id, parsed)

    def plan(
        self,
        user_id: str,
        process: object,
        *,
        job_id: str,
        output_dir: Path,
        synchronous: bool = False,
        log_level: str = "info",
        tile: tuple[int, int, int] | None = None,
    ) -> GraphRequest:
        """Return the run of a process.

        Raises:
            ApiError: the first thing that is wrong with it.
        """
        remote = self._remote()
        errors = self.validate(user_id, process, remote)
        if errors:
            raise errors[0]
        parsed = parse_process(process) if tile is None else with_own_masks(parse_process(process))
        spec = RunSpec(
            job_id=job_id,
            output_dir=output_dir,
            collections_dir=self._settings.collections_dir,
            weights_dir=self._settings.data_dir / "weights",
            allow_any_udf=self._settings.allow_any_udf,
            stac_hosts=self._settings.readable_hosts,
            synchronous=synchronous,
            max_pixels=self._settings.sync_max_pixels if synchronous else None,
            log_level=log_level,
            public_url=self._settings.known_url,
            tile=tile,
            margin_px=0 if tile is None else models_margin(parsed["process_graph"]),
        )
        return GraphRequest(
            run=spec,
            graph=parsed["process_graph"],
            library=self._library(user_id, parsed["process_graph"], remote),
            synchronous=synchronous,
        )

    def _remote(self) -> RemoteProcesses:
        return RemoteProcesses(self._settings.readable_hosts)

    def estimate_bytes(self, process: Mapping[str, Any]) -> int | None:
        """Return an upper bound of the size of the results, or None where it is not known.

        A mask has one byte per pixel, everything else four bytes per value.
        """
        graph = process.get("process_graph")
        total = 0
        masks = any(node["process_id"] in _MASKS for node in nodes_of(graph))
        for node in nodes_of(graph):
            if node["process_id"] != "load_collection":
                continue
            arguments = node.get("arguments", {})
            try:
                items = self._collections.items(str(arguments.get("id")))
            except ApiError:
                return None
            for item in items:
                height, width = item["properties"]["proj:shape"]
                bands = arguments.get("bands") or item["properties"]["cloudmask:bands"]
                total += height * width * (1 if masks else 4 * len(bands))
        return total or None

    def _lookup(self, user_id: str, remote: RemoteProcesses) -> Lookup:
        from openeo_cloudmask.backend.processes.registry import predefined_specs

        predefined = predefined_specs()
        known: dict[str, dict[str, Any] | None] = {}

        def lookup(process_id: str, namespace: str | None) -> dict[str, Any] | None:
            if is_address(namespace):
                return remote.get(process_id, str(namespace))
            if namespace not in (None, "user", "backend", "predefined"):
                return None
            if namespace != "user" and process_id in predefined:
                return predefined[process_id]
            if namespace in ("backend", "predefined"):
                return None
            if process_id not in known:
                spec = self._processes.get(user_id, process_id)
                if spec is not None:  # also those that an older server stored
                    spec = spec | {"parameters": parse_parameters(process_id, spec)}
                known[process_id] = spec
            return known[process_id]

        return lookup

    def _library(
        self, user_id: str, graph: Mapping[str, Any], remote: RemoteProcesses
    ) -> dict[str, dict[str, Any]]:
        from openeo_cloudmask.backend.processes.registry import predefined_specs

        predefined = predefined_specs()
        library: dict[str, dict[str, Any]] = {}
        waiting: list[object] = [graph]
        while waiting:
            for node in nodes_of(waiting.pop()):
                name, namespace = node["process_id"], node.get("namespace")
                key, elsewhere = library_key(name, namespace), is_address(namespace)
                if key in library or (
                    name in predefined and namespace != "user" and not elsewhere
                ):  # fmt: skip
                    continue
                spec = (
                    remote.get(name, str(namespace))
                    if elsewhere
                    else self._processes.get(user_id, name)
                )
                if spec is not None:
                    library[key] = spec
                    waiting.append(spec["process_graph"])
                if len(library) > MAX_LIBRARY:
                    raise ApiError(
                        "ProcessGraphComplexity", f"more than {MAX_LIBRARY} stored processes"
                    )
        return library

    def _check_content(  # noqa: C901 - one line per process
        self, user_id: str, process: Mapping[str, Any]
    ) -> list[ApiError]:
        """Return what is wrong with literal arguments that only this back end can judge."""
        from openeo_cloudmask.backend.cubes.masking import parse_client_options
        from openeo_cloudmask.backend.processes.load import parse_interval
        from openeo_cloudmask.backend.processes.methods import detection_options
        from openeo_cloudmask.backend.processes.results import find_format
        from openeo_cloudmask.backend.processes.udf import check_udf
        from openeo_cloudmask.products.crs import parse_crs

        del user_id
        run = RunSpec(
            job_id="validation",
            output_dir=self._settings.scratch_dir,
            collections_dir=self._settings.collections_dir,
            weights_dir=self._settings.data_dir / "weights",
            allow_any_udf=self._settings.allow_any_udf,
        )

        def check(node: Mapping[str, Any]) -> None:
            arguments = node["arguments"]
            name = node["process_id"]
            if name == "load_collection" and isinstance(arguments.get("id"), str):
                self._collections.get(arguments["id"])
            if name in ("load_collection", "load_stac"):
                extent = arguments.get("temporal_extent")
                if isinstance(extent, list) and all(isinstance(e, str | None) for e in extent):
                    _checked_interval(parse_interval, extent)
                box = arguments.get("spatial_extent")
                if isinstance(box, dict) and isinstance(box.get("crs"), str | int):
                    parse_crs(box["crs"])
            if name == "run_udf" and isinstance(arguments.get("udf"), str):
                check_udf(arguments["udf"], run)
            if name == "save_result" and isinstance(arguments.get("format"), str):
                find_format(arguments["format"])
            if name == "cloud_mask":
                literal = {
                    key: value
                    for key, value in arguments.items()
                    if key != "data" and not isinstance(value, dict)
                }
                parse_client_options(literal, run)
            if name == "cloud_detection":
                method, options = arguments.get("method"), arguments.get("options") or {}
                if isinstance(method, str | None) and "from_parameter" not in options:
                    parse_client_options(detection_options(method, options), run)

        errors: list[ApiError] = []
        for node in nodes_of(process["process_graph"]):
            try:
                check(node)
            except ApiError as err:
                errors.append(err)
            except CloudMaskError as err:
                errors.append(ApiError(err.code, str(err)))
        return errors


def check_tileable(process: Mapping[str, Any]) -> None:
    """Check that a process can be computed one map tile at a time.

    Raises:
        ApiError: it holds a process whose pixels depend on others than those under them.
    """
    for node in nodes_of(with_own_masks(process)["process_graph"]):
        if node["process_id"] not in TILEABLE:
            raise ApiError(
                "FeatureUnsupported",
                f"{node['process_id']} cannot be computed tile by tile; a service's process may "
                f"hold {', '.join(TILEABLE)}",
            )
        given = node.get("arguments", {})
        for place in (given, given.get("options") or {}):
            if found := [name for name in _NEIGHBOURLY if place.get(name)]:
                raise ApiError(
                    "FeatureUnsupported",
                    f"{node['process_id']} has {', '.join(found)}, which look further than a tile; "
                    "leave them out of a service's process",
                )


def models_margin(graph: Mapping[str, Any]) -> int:
    """Return how many pixels around a tile the models of a graph look at."""
    from openeo_cloudmask.models import MODELS, get_model, other_models

    named: list[ModelEntry] = []
    for node in nodes_of(graph):
        old = ("id",) if node.get("process_id") == "load_ml_model" else ()
        for key in (*_MODEL_KEYS, *old):
            name = node.get("arguments", {}).get(key)
            if isinstance(name, str):
                with contextlib.suppress(CloudMaskError):
                    named.append(get_model(name))
    known = [*MODELS.values(), *other_models().values()]
    return max(margin_px(entry.window) for entry in named or known)


def _checked_interval(parse: Any, extent: list[str | None]) -> None:  # noqa: ANN401
    try:
        parse(extent)
    except ValueError as err:
        raise ApiError(
            "ProcessParameterInvalid",
            f"temporal_extent {extent} is not understood; expected two dates such as 2024-05-01",
        ) from err
