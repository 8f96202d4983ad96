_base_ = './vit-b-dinov2_knn20_ade20k-518x518.py'

# Not of the paper: patches vote with their shares of the classes, weighted by similarity; a sample of 500,000 of them.
head = dict(entries='patches', num_neighbors=30, temperature=0.02, max_entries=500000)
model = dict(decode_head=head)
