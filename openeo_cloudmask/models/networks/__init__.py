"""Networks under the state-dict names of the published weights, built from plain settings.

A module per architecture, each with ``build(config) -> torch.nn.Module``; it is imported only
when its kind is asked for, because it imports torch.
"""
