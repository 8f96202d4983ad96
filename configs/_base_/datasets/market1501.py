# Market-1501: 12,936 training images, 3,368 queries, 15,913 gallery images, 6 cameras.
identities = dict(type='reprefine.Market1501', data_root='data/market1501')
num_classes = 751
