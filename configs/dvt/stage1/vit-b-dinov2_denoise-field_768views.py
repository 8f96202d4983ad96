_base_ = ['../../_base_/models/vit-b-dinov2.py', '../_base_/denoise_images_field.py']
