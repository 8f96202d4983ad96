# Per-image denoising as first released: 20,000 steps of Adam an image.
_base_ = './denoise_images.py'

out_dir = 'data/dvt/field'
stage1 = dict(solver='field', profile='paper', field=dict(artifact_std=0.05))
