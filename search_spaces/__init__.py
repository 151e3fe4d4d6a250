"""What can be chosen: genes, sampling, mutation, encoding; one file a family, one TOML a preset."""
