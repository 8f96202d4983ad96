_base_ = ['../../_base_/models/vit-b-dino.py', '../_base_/denoise_images_field-25k.py']
