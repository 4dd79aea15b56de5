"""The capabilities of a service as OGC WMTS 1.0.0, whose tiles are those of XYZ."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from openeo_cloudmask.products.xyz import HALF_M, MAX_ZOOM, TILE_PX

_SET = "GoogleMapsCompatible"
_SCALE_PIXEL_M = 0.00028
"""Side of a pixel that scale denominators are of, by the standard."""


def write_capabilities(*, layer: str, title: str, tiles: str, own: str) -> str:
    """Return the document.

    Args:
        layer: identifier of the one layer.
        title: of the layer.
        tiles: address of a tile, with ``{z}``, ``{x}`` and ``{y}``.
        own: address of this document.
    """
    names = {"{z}": "{TileMatrix}", "{x}": "{TileCol}", "{y}": "{TileRow}"}
    for short, long in names.items():
        tiles = tiles.replace(short, long)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
    xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
  <ows:ServiceIdentification>
    <ows:Title>{escape(title)}</ows:Title>
    <ows:ServiceType>OGC WMTS</ows:ServiceType>
    <ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>
  </ows:ServiceIdentification>
  <Contents>
    <Layer>
      <ows:Title>{escape(title)}</ows:Title>
      <ows:WGS84BoundingBox>
        <ows:LowerCorner>-180 -85.051129</ows:LowerCorner>
        <ows:UpperCorner>180 85.051129</ows:UpperCorner>
      </ows:WGS84BoundingBox>
      <ows:Identifier>{escape(layer)}</ows:Identifier>
      <Style isDefault="true"><ows:Identifier>default</ows:Identifier></Style>
      <Format>image/png</Format>
      <TileMatrixSetLink><TileMatrixSet>{_SET}</TileMatrixSet></TileMatrixSetLink>
      <ResourceURL format="image/png" resourceType="tile" template={quoteattr(tiles)}/>
    </Layer>
    <TileMatrixSet>
      <ows:Identifier>{_SET}</ows:Identifier>
      <ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>
      <WellKnownScaleSet>urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible</WellKnownScaleSet>
{"".join(_matrix(zoom) for zoom in range(MAX_ZOOM + 1))}    </TileMatrixSet>
  </Contents>
  <ServiceMetadataURL xlink:href={quoteattr(own)}/>
</Capabilities>
"""


def _matrix(zoom: int) -> str:
    tiles = 1 << zoom
    scale = 2 * HALF_M / (TILE_PX * tiles) / _SCALE_PIXEL_M
    return f"""      <TileMatrix>
        <ows:Identifier>{zoom}</ows:Identifier>
        <ScaleDenominator>{scale!r}</ScaleDenominator>
        <TopLeftCorner>{-HALF_M!r} {HALF_M!r}</TopLeftCorner>
        <TileWidth>{TILE_PX}</TileWidth><TileHeight>{TILE_PX}</TileHeight>
        <MatrixWidth>{tiles}</MatrixWidth><MatrixHeight>{tiles}</MatrixHeight>
      </TileMatrix>
"""
