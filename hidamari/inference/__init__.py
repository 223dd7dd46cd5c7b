"""From data and a likelihood to a posterior."""
