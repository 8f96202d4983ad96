"""Stages 2 and 3: the denoiser, a neck trained on the features of stage 1, and its distillation into a ViT."""
