"""Compression: precision and pruning, chosen per block."""
