"""The table of metrics, counting, adding up, and what Prometheus gets to read."""
