# The timesteps of the released code, whose counter restarts in every sub-tree of its ViT: 26 and 25 in turn.
_base_ = './vit-p4_denoiserep_cifar10.py'

model = dict(denoise=dict(timestep={r'attn\.proj$|ffn\.layers\.1$': 25, r'.': 26}))
