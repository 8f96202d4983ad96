"""The distillation of the student: model, losses, export of the backbone, and knowledge distillation baselines."""
