"""Accuracy and latency from genes, with intervals."""

from predictors.accuracy import AccuracyPredictor
from predictors.calibration import Calibration, calibrate, calibration_changes, load_calibration
from predictors.calibration_job import CalibrationPlan
from predictors.calibration_report import CalibrationReport, LatencyErrors
from predictors.latency import LatencyPredictor
from predictors.prediction import Prediction
from predictors.report import AccuracyReport, accuracy_report

__all__ = [
    "AccuracyPredictor",
    "AccuracyReport",
    "Calibration",
    "CalibrationPlan",
    "CalibrationReport",
    "LatencyErrors",
    "LatencyPredictor",
    "Prediction",
    "accuracy_report",
    "calibrate",
    "calibration_changes",
    "load_calibration",
]
