_base_ = ['../../_base_/models/vit-b-deit3.py', '../_base_/denoise_images.py']
