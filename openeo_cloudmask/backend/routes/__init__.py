"""The endpoints of the openEO API, one module a group."""
