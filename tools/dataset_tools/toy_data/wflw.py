"""WFLW in toy size, with the annotation files of OpenMMLab's archive: 98 landmarks a face, up to two faces an image."""

import json
from pathlib import Path

import numpy as np

from toy_data.faces import FaceCanvas, Light, draw_face
from toy_data.image_files import save_jpeg

_ATTRIBUTES = ('largepose', 'expression', 'illumination', 'makeup', 'occlusion', 'blur')
_IMAGES = {'train': 56, 'test': 21}
_EVENTS = {
    '0--Parade': '0_Parade_marchingband_1',
    '1--Handshaking': '1_Handshaking_Handshaking_1',
    '12--Group': '12_Group_Group_12_Group_Group_12',
    '36--Football': '36_Football_americanfootball_ball_36',
    '44--Aerobics': '44_Aerobics_Aerobics_44',
    '54--Rescue': '54_Rescue_rescuepeople_54',
}


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write images and annotations: train, test, and the subset of test for each attribute.

    Args:
        folder: Root of the dataset; created if missing.
        rng: Source of all random draws.
    """
    numbers = iter(rng.choice(np.arange(1, 1000), sum(_IMAGES.values()), replace=False).tolist())
    images = {subset: [] for subset in (*_IMAGES, *(f'test_{attribute}' for attribute in _ATTRIBUTES))}
    for subset, count in _IMAGES.items():
        for index in range(count):
            attribute = (None, *_ATTRIBUTES)[index % 7]
            image = _draw_image(folder / 'images', next(numbers), 1 + index % 5 % 2, attribute, rng)
            images[subset].append(image)
            if subset == 'test' and attribute:
                images[f'test_{attribute}'].append(image)
    (folder / 'annotations').mkdir(parents=True, exist_ok=True)
    for subset, entries in images.items():
        path = folder / 'annotations' / f'face_landmarks_wflw_{subset}.json'
        path.write_text(json.dumps(_to_coco(entries)))


def _draw_image(root: Path, number: int, faces: int, attribute: str | None, rng: np.random.Generator) -> dict:
    """Write an image that shows an attribute; return its entry of the annotation file and the landmarks in it."""
    width, height = size = (200 if faces == 1 else 280, 200)
    canvas, landmarks = FaceCanvas(size, rng), []
    for index in range(faces):
        center = np.array([(index + 0.5) / faces * width, 0.45 * height]) + rng.uniform(-8, 8, 2)
        face = draw_face(rng, attribute, accessories=rng.random() < 0.3)
        landmarks.append(canvas.add(face, center, rng.uniform(38, 48)).landmarks)
    event = str(rng.choice(list(_EVENTS)))
    name = f'{event}/{_EVENTS[event]}_{number}.jpg'
    save_jpeg(root / name, canvas.render(_draw_light(attribute, rng), rng))
    return dict(image=dict(id=number, file_name=name, width=width, height=height), landmarks=landmarks)


def _draw_light(attribute: str | None, rng: np.random.Generator) -> Light:
    if attribute == 'illumination':
        return Light(gain=rng.uniform(0.28, 0.4), side=rng.choice([-0.5, 0.5]))
    blur = rng.uniform(2, 3.5) if attribute == 'blur' else 0.0
    return Light(gain=rng.uniform(0.8, 1.1), side=rng.uniform(-0.2, 0.2), blur=blur)


def _to_coco(entries: list[dict]) -> dict:
    """Return an annotation file; the identifiers of faces and images are the same in every subset."""
    faces = [
        _to_annotation(points, image_id=entry['image']['id'], index=index)
        for entry in entries
        for index, points in enumerate(entry['landmarks'])
    ]
    category = dict(supercategory='person', id=1, name='face', keypoints=[], skeleton=[])
    info = dict(description='Rendered faces in the format of WFLW', version='1.0')
    return dict(info=info, images=[entry['image'] for entry in entries], annotations=faces, categories=[category])


def _to_annotation(points: np.ndarray, image_id: int, index: int) -> dict:
    """Describe one face; centre and scale (in units of 200 pixels) are those of the box around its landmarks."""
    points = points.round(2)
    corner, extent = points.min(0), np.ptp(points, axis=0)
    return dict(
        id=10 * image_id + index,
        image_id=image_id,
        category_id=1,
        iscrowd=0,
        num_keypoints=len(points),
        keypoints=np.column_stack([points, np.full(len(points), 2.0)]).ravel().tolist(),
        bbox=np.concatenate([corner, extent]).tolist(),
        center=(corner + extent / 2).tolist(),
        scale=float(extent.max() / 200),
    )
