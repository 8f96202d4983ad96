# With the denoiser of the newer release.
_base_ = './vit-b-clip-dvt_linear_8xb2-38k_nyu-416x544.py'

model = dict(neck=dict(checkpoint='work_dirs/dvt/denoiser/vit-b-clip_denoiser_8xb16-50k_voc10k/iter_50000.pth'))
