# CUHK03, new protocol, 767 training identities, 2 cameras. Boxes by hand: 7,368 training images, 1,400 queries, 5,328
# gallery images; detected ones (`boxes='detected'`): 7,365, 1,400 and 5,332.
identities = dict(type='reprefine.CUHK03', data_root='data/cuhk03')
num_classes = 767
