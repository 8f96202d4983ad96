_base_ = ['../../_base_/models/vit-b-mae.py', '../_base_/denoise_images_field.py']
