"""The HTTP side: routes, accounts, errors."""
