"""The client side of openEO: process graphs, the user-defined process, jobs and bundles."""
