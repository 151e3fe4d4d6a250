"""Accuracy and latency from genes, with intervals."""

from predictors.calibration import Calibration, calibrate, calibration_changes, load_calibration
from predictors.calibration_job import CalibrationPlan
from predictors.calibration_report import CalibrationReport, LatencyErrors
from predictors.latency import LatencyPredictor
from predictors.prediction import Prediction

__all__ = [
    "Calibration",
    "CalibrationPlan",
    "CalibrationReport",
    "LatencyErrors",
    "LatencyPredictor",
    "Prediction",
    "calibrate",
    "calibration_changes",
    "load_calibration",
]
