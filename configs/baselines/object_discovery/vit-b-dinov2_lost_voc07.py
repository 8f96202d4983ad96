_base_ = './vit-b-dinov2_lost-norm_voc07.py'

# As LOST has it: the seed is the patch that correlates positively with the fewest others.
model = dict(prominence='degree')
