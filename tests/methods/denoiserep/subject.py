"""The training of DenoiseRep that the tests of guarantees run."""

CONFIG = 'denoiserep/classification/vit-tiny_denoiserep_digits'
CHANGES = """
load_from = None
model = dict(backbone=dict(img_size=32, patch_size=16, arch=dict(num_layers=1)))
custom_hooks[0].update(phase_length=2, by='iter')
"""
