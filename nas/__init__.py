"""Hardware-aware neural architecture search: architecture, pruning and precision chosen together, per device."""

__version__ = "0.1.0"
