"""Training of the networks that this package makes itself."""
