"""DVT with the shipped small ViT, in plain PyTorch: scenes, features, stage 1 and 2, and the linear probe."""
