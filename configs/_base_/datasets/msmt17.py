# MSMT17: 32,621 training images (train and val), 11,659 queries, 82,161 gallery images, 15 cameras.
identities = dict(type='reprefine.MSMT17', data_root='data/msmt17')
num_classes = 1041
