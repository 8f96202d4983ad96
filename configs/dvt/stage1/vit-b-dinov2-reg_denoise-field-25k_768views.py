_base_ = ['../../_base_/models/vit-b-dinov2-reg.py', '../_base_/denoise_images_field-25k.py']
