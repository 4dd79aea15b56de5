"""The client side of openEO: process graphs, the user-defined function and process, job options."""
