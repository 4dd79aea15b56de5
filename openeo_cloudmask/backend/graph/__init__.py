"""Process graphs: validated, planned, executed."""
