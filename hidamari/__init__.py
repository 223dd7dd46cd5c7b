"""hidamari."""
