_base_ = ['../../_base_/models/vit-b-dino.py', '../../_base_/recipes/denoise_images.py']
