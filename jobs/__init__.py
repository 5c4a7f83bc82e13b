"""Entry points: parse, one call into `workflows`, print. Each runs as `fleetune X` and as `python -m jobs.X`."""
