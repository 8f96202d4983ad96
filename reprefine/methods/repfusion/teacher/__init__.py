"""The diffusion model as a teacher: loading it, reading its layers, training one, and probing its timesteps."""
