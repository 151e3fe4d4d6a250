"""Bundles: a network exported, verified and opened again."""
