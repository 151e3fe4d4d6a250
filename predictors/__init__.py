"""Accuracy and latency from genes, with intervals."""
