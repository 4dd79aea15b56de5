"""STAC: the extension, models and masks as items, the catalog and its API."""
