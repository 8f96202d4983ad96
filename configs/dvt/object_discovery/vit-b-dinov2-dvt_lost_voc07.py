# As LOST has it: the seed is the patch that correlates positively with the fewest others.
_base_ = ['../../baselines/object_discovery/vit-b-dinov2_lost-norm_voc07.py', '../_base_/vit-b-dinov2.py']

model = dict(neck=_base_.denoiser, prominence='degree')
