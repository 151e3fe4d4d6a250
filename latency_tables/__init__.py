"""What a network costs on a device: runtimes, devices, the measuring protocol, tables."""
