# Per-image denoising as in the newer release: 25,000 steps of Adam an image, another schedule and resizing.
_base_ = './denoise_images.py'

out_dir = 'data/dvt/field-25k'
stage1 = dict(solver='field', profile='head', resize_interpolation='bilinear')
