"""Reference implementations with loops for the vectorised functions."""

import numpy as np
import torch


def pairwise(a, b):
    """Squared Euclidean distances in double precision."""
    return ((a[:, None].astype(float) - b[None].astype(float)) ** 2).sum(-1)


def evaluate(distance, queries, gallery, topk=(1, 5, 10)):
    """Metrics by stable sorting, query after query, match after match."""
    precisions, penalties, first = [], [], []
    for row, (pid, camera) in zip(distance, zip(queries.pid, queries.camera, strict=True), strict=True):
        seen = hits = 0
        precision = []
        for index in sorted(range(len(row)), key=lambda g: (row[g], g)):
            if gallery.pid[index] == pid and gallery.camera[index] == camera:
                continue
            seen += 1
            if gallery.pid[index] == pid:
                hits += 1
                precision.append(hits / seen)
                if hits == 1:
                    first.append(seen)
        if hits:
            precisions.append(sum(precision) / hits)
            penalties.append(precision[-1])
    values = dict(mAP=precisions, mINP=penalties) | {f'CMC-{k}': [rank <= k for rank in first] for k in topk}
    return {name: 100 * float(np.mean(value)) for name, value in values.items()}


def rerank(queries, gallery, k1, k2, lambda_value):
    """k-reciprocal encoding with sets and dense vectors, image after image."""
    features = np.concatenate([queries, gallery])
    distance = pairwise(features, features)
    distance /= distance.max(1, keepdims=True)
    order = np.argsort(distance, axis=1)
    count = len(features)

    def reciprocal(image, k):
        return {j for j in order[image, : k + 1] if image in order[j, : k + 1]}

    encoding = np.zeros((count, count))
    for image in range(count):
        own = reciprocal(image, k1)
        expanded = set(own)
        for candidate in own:
            others = reciprocal(candidate, round(k1 / 2))
            if len(others & own) > 2 / 3 * len(others):
                expanded |= others
        for j in expanded:
            encoding[image, j] = np.exp(-distance[image, j])
        encoding[image] /= encoding[image].sum()
    encoding = np.stack([encoding[order[image, :k2]].mean(0) for image in range(count)])
    result = np.zeros((len(queries), len(gallery)))
    for q in range(len(queries)):
        for g in range(len(gallery)):
            a, b = encoding[q], encoding[len(queries) + g]
            jaccard = 1 - np.minimum(a, b).sum() / np.maximum(a, b).sum()
            result[q, g] = lambda_value * distance[q, len(queries) + g] + (1 - lambda_value) * jaccard
    return result


def clustered(images, identities, dim, seed, spread=0.8):
    """Features around one centre for each identity, and the identities."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(identities, dim))
    pid = rng.integers(identities, size=images)
    feature = centres[pid] + spread * rng.normal(size=(images, dim))
    return torch.from_numpy(feature.astype(np.float32)), pid
