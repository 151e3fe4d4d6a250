"""Training a supernet: the plan, the trainer and its checkpoints."""

from supernets.training.plan import TrainingPlan, TrainingStage, read_plan
from supernets.training.trainer import train

__all__ = ["TrainingPlan", "TrainingStage", "read_plan", "train"]
