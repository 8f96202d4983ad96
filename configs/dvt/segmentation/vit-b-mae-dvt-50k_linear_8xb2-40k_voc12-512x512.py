# With the denoiser of the newer release.
_base_ = './vit-b-mae-dvt_linear_8xb2-40k_voc12-512x512.py'

model = dict(neck=dict(checkpoint='work_dirs/dvt/denoiser/vit-b-mae_denoiser_8xb16-50k_voc10k/iter_50000.pth'))
