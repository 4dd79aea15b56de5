"""What the viewer's pages do; the pages themselves hold layout only."""
