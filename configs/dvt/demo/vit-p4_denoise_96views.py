_base_ = ['../../_base_/models/vit-p4_64px.py', '../_base_/denoise_images.py']

stage1 = dict(num_views=96, profile='cpu', recenter=True)
