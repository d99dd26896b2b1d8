"""Validation pictures out of data that have none, so that near-duplicates stay on one side."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mmdet.datasets.raw import RawPicture
from mmdet.errors import UserError, UserValueError
from mmdet.utils.pictures import read_picture

from .collection import UNSPLIT, Collection

NEAR = 3
"""Bits of 64 in which the fingerprints of near-duplicates differ at most."""
_BANDS = NEAR + 1  # two fingerprints that differ in NEAR bits are equal in one of so many parts


def split_pictures(
    pictures: Sequence[RawPicture], share: float = 0.2, workers: int = 4
) -> tuple[list[RawPicture], list[RawPicture], int]:
    """Training and validation pictures, and how many lie in a group with near-duplicates.

    Groups are what the names say to be copies of one picture (Roboflow's ``.rf.``) or what looks alike. They are dealt
    out by class, the rarest first, in an order that depends on names alone: the same data split in the same way.

    Args:
        share: Of the pictures that are to be validation pictures.
    """
    groups = near_duplicates(pictures, workers)
    order = sorted(groups, key=lambda group: _digest(min(pictures[i].name for i in group)))
    classes = [{box.category for i in group for box in pictures[i].boxes} or {None} for group in order]
    frequency = Counter(name for found in classes for name in found)
    held: set[int] = set()
    done: set[int] = set()
    for name in sorted(frequency, key=lambda name: (frequency[name], str(name))):
        own = [place for place, found in enumerate(classes) if name in found]
        wanted = round(share * len(own)) or int(len(own) > 1)
        wanted -= sum(place in held for place in own)
        for place in own:
            if place not in done:
                done.add(place)
                if wanted > 0:
                    held.add(place)
                    wanted -= 1
    chosen = {i for place in held for i in order[place]}
    train = [picture for i, picture in enumerate(pictures) if i not in chosen]
    val = [picture for i, picture in enumerate(pictures) if i in chosen]
    return train, val, sum(len(group) for group in groups if len(group) > 1)


def with_validation(collection: Collection, share: float = 0.2, workers: int = 4) -> Collection:
    """The collection with validation pictures: those that it has, else its test pictures, else some of the others.

    Raises:
        UserValueError: it has too few pictures, or ``share`` is no part of them.
    """
    if not 0 < share < 1:
        raise UserValueError(f'the share of validation pictures must lie between 0 and 1, not {share}')
    splits = {split: list(group) for split, group in collection.splits.items() if group}
    notes = list(collection.notes)
    rest = splits.pop(UNSPLIT, [])
    if rest:
        splits['train'] = splits.get('train', []) + rest
    if 'val' not in splits and 'test' in splits and 'train' in splits:
        splits['val'] = splits['test']
        notes.append('there are no validation pictures, so the test pictures serve for them')
    if 'train' not in splits:
        given = next(iter(splits))
        splits['train'] = splits.pop(given)
        notes.append(f'all pictures are of {given!r}: they are taken for training')
    if 'val' not in splits:
        if len(splits['train']) < 2:
            raise UserValueError(f'{str(collection.root)!r} has one picture, which cannot be split')
        splits['train'], splits['val'], near = split_pictures(splits['train'], share, workers)
        text = f'{len(splits["val"])} pictures were set apart for validation'
        notes.append(text + (f'; {near} near-duplicates were kept on one side' if near else ''))
        if not splits['val'] or not splits['train']:
            raise UserValueError(f'{str(collection.root)!r}: all pictures are near-duplicates of each other')
    order: dict[str, list[RawPicture]] = {name: splits[name] for name in ('train', 'val', 'test') if name in splits}
    return dataclasses.replace(collection, splits=order, notes=notes)


def _digest(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def near_duplicates(pictures: Sequence[RawPicture], workers: int = 4) -> list[list[int]]:
    """Groups of places in the list, each in one group."""
    parent = list(range(len(pictures)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    by_key: dict[tuple, list[int]] = defaultdict(list)
    for i, picture in enumerate(pictures):
        copied = re.match(r'(.+?)(?:_(?:jpe?g|png|bmp|webp))?\.rf\.[0-9a-f]{8,}', Path(picture.name).name)
        if copied:
            by_key['name', copied[1]].append(i)
    with ThreadPoolExecutor(workers) as pool:
        prints = list(pool.map(lambda picture: fingerprint(picture.path), pictures))
    for i, found in enumerate(prints):
        if found is not None:
            for band in range(_BANDS):
                by_key[band, (found >> (16 * band)) & 0xFFFF].append(i)
    for key, members in by_key.items():
        for place, i in enumerate(members):
            for j in members[:place]:
                mine, other = prints[i], prints[j]
                if root(i) == root(j):
                    continue
                if key[0] == 'name' or (mine is not None and other is not None and (mine ^ other).bit_count() <= NEAR):
                    parent[root(i)] = root(j)
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(pictures)):
        groups[root(i)].append(i)
    return list(groups.values())


def fingerprint(path: str) -> int | None:
    """64 bits of which neighbour is the brighter one, in a picture shrunk to 8 by 9; None where it cannot be read."""
    import cv2

    try:
        grey = read_picture(path, flag='grayscale')
    except (OSError, UserError):
        return None
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    if np.ptp(small) < 4:
        return None  # one colour: its bits are noise
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int(''.join('1' if bit else '0' for bit in bits), 2)
