"""What a network costs: devices, the measuring protocol, and the tables built with them."""

from latency_tables.device import Device, get_device, list_devices, list_runtimes
from latency_tables.measurement import Measurement
from latency_tables.protocol import FULL, MeasuringPlan
from latency_tables.simulated import SimulatedDevice
from latency_tables.table import LatencyTable, TableIdentity

__all__ = [
    "FULL",
    "Device",
    "LatencyTable",
    "Measurement",
    "MeasuringPlan",
    "SimulatedDevice",
    "TableIdentity",
    "get_device",
    "list_devices",
    "list_runtimes",
]
