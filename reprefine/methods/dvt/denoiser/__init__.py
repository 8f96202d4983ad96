"""Stage 2: the denoiser that is learned from stage 1, as a neck, and its distillation into a vision transformer."""
