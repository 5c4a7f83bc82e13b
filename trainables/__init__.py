"""Worker side: all that runs inside one trial. Imports nothing from `workflows` or `jobs`."""
