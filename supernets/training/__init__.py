"""Training a supernet: the plan, the trainer and its checkpoints."""

from supernets.training.checkpoint import has_run
from supernets.training.plan import TrainingPlan, TrainingStage, read_plan
from supernets.training.trainer import train

__all__ = ["TrainingPlan", "TrainingStage", "has_run", "read_plan", "train"]
