# DukeMTMC-reID: 16,522 training images, 2,228 queries, 17,661 gallery images, 8 cameras.
identities = dict(type='reprefine.DukeMTMC', data_root='data/dukemtmc')
num_classes = 702
