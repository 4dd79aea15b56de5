"""An openEO back end for one machine or a dask cluster; ``app.create_app`` builds it."""
