"""References, scores, error maps and reports; simulated scenes with truth."""
