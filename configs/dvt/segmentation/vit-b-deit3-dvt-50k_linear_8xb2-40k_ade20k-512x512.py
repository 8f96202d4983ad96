# With the denoiser of the newer release.
_base_ = './vit-b-deit3-dvt_linear_8xb2-40k_ade20k-512x512.py'

model = dict(neck=dict(checkpoint='work_dirs/dvt/denoiser/vit-b-deit3_denoiser_8xb16-50k_voc10k/iter_50000.pth'))
