"""References and their images from public archives: found, fetched, checked."""
