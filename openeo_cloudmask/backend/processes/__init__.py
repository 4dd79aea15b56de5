"""The processes of the back end: openEO's standard ones, and ours."""
