"""Checks that the class names of a config are those of the annotations, in the same order."""

import difflib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mmengine import fileio
from mmengine.logging import print_log

from reprefine.engine.errors import UserError

from .wrappers import class_names, leaf_datasets


def check_class_names(dataset: Any) -> None:
    """Refuse a dataset whose labels mean other classes than its class names say.

    Raises:
        UserError: A name is not among the categories of a COCO file or has another number there, or class folders are
            numbered in another order; an object of an XML file has a misspelt class; several datasets that number
            their own labels are concatenated.
    """
    leaves = leaf_datasets(dataset)
    for leaf in leaves:
        if classes := class_names(leaf):
            for attribute, check in CHECKS.items():
                if hasattr(leaf, attribute):
                    check(leaf, classes)
    own = [leaf for leaf in leaves if getattr(leaf, 'NUMBERS_ITS_LABELS', False)]
    if len(own) > 1:
        raise UserError(
            f'{" and ".join(type(leaf).__name__ for leaf in own)} are concatenated by {type(dataset).__name__}, but '
            'equal labels in them are different identities: concatenate them by reprefine.MergedReID'
        )


def check_same_numbers(train: Any, other: Any) -> None:
    """Refuse validation or test data in which a class has another number than in training.

    Raises:
        UserError: With the first such class and its numbers.
    """
    if class_names(leaf_datasets(train)[0]) == class_names(leaf_datasets(other)[0]):
        return  # names may be repeated
    expected, found = (
        {name: number for number, name in enumerate(class_names(leaf_datasets(dataset)[0]))}
        for dataset in (train, other)
    )
    for name, number in found.items():
        if expected.get(name, number) != number:
            raise UserError(
                f'class {name!r} has the number {number} in {type(other).__name__} for evaluation, but '
                f'{expected[name]} in training: give both the same classes, such as a folder for each'
            )


def _check_categories(dataset: Any, classes: Sequence[str]) -> None:
    """COCO style: classes are numbered in the order of the file's categories, without those the file lacks."""
    if classes == tuple(type(dataset).METAINFO.get('classes') or ()) and len(classes) == len(dataset.cat_ids):
        return
    content = json.loads(fileio.get_text(dataset.ann_file, backend_args=getattr(dataset, 'backend_args', None)))
    names = {category['id']: category['name'] for category in content['categories']}
    numbered = [names[number] for number in dataset.cat_ids]
    if missing := [name for name in classes if name not in numbered]:
        found = ', '.join(names.values())
        raise UserError(
            f'metainfo.classes names {", ".join(missing)}, but the categories of {dataset.ann_file} are {found}: '
            'correct the name, or leave it out; the classes after it would be numbered wrongly'
        )
    if numbered != list(classes):
        raise UserError(
            f'metainfo.classes has the order {", ".join(classes)}, but the categories of {dataset.ann_file} '
            f'{", ".join(numbered)}, which numbers them: give the classes in that order'
        )


def _check_folders(dataset: Any, classes: Sequence[str]) -> None:
    """Class folders are numbered in the order of their names."""
    ordered = ', '.join(sorted(dataset.folder_to_idx, key=dataset.folder_to_idx.get))
    for folder, number in dataset.folder_to_idx.items():
        if folder in classes and classes[number] != folder:
            raise UserError(
                f'metainfo.classes calls class {number} {classes[number]!r}, but in {dataset.img_prefix} folder '
                f'{folder!r} has that number (folders are numbered by name): give the classes as {ordered}'
            )


def _check_objects(dataset: Any, classes: Sequence[str]) -> None:
    """XML style: objects whose name is no class are dropped without a warning."""
    used = {label for index in range(len(dataset)) for label in dataset.get_cat_ids(index)}
    absent = [name for number, name in enumerate(classes) if number not in used]
    others = {name: n for name, n in _object_names(dataset).items() if name not in classes} if absent else {}
    if not others:
        return
    named = ', '.join(f'{name} ({n} objects)' for name, n in others.items())
    line = f'{dataset.ann_file}: class {", ".join(absent)} has no object, and {named} is no class'
    if any(_is_similar(name, other) for name in absent for other in others):
        raise UserError(f'{line} and would be dropped: correct metainfo.classes')
    print_log(line, 'current', logging.WARNING)


def _is_similar(name: str, other: str) -> bool:
    letters = [''.join(filter(str.isalnum, text.lower())) for text in (name, other)]
    return letters[0] == letters[1] or bool(difflib.get_close_matches(name, [other], cutoff=0.8))


def _object_names(dataset: Any) -> Counter[str]:
    """Return the number of objects of each name in the XML files of a dataset, before any filter."""
    folder = Path(dataset.sub_data_root, dataset.ann_subdir)
    files = [folder / f'{name}.xml' for name in fileio.list_from_file(dataset.ann_file)]
    return Counter(
        name.text for file in files if file.is_file() for name in ElementTree.parse(file).iterfind('object/name')
    )


# By an attribute that only datasets of this kind have: how their labels follow from the class names.
CHECKS = {'cat_ids': _check_categories, 'folder_to_idx': _check_folders, 'ann_subdir': _check_objects}
