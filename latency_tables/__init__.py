"""What a network costs: devices, the measuring protocol, and the tables built with them."""

from latency_tables.device import Device, get_device, list_devices
from latency_tables.measurement import Measurement
from latency_tables.protocol import FULL, MeasuringPlan

__all__ = ["FULL", "Device", "Measurement", "MeasuringPlan", "get_device", "list_devices"]
