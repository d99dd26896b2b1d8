"""What annotation files hold, before a dataset leaves any of it out: for those who look for mistakes in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.dataset import BaseDataset

from .reading.report import Report


@dataclass
class RawBox:
    """One object.

    Attributes:
        xyxy: Corners in pixels, in the numbers of the file.
        category: Name of its class in the file; None for what the file marks to be ignored.
        label: How to find it in the file: ``'annotation 7'``, ``'object 2'``.
        segmentation: A COCO segmentation.
        crowd: Whether it covers a crowd.
        xywh: The four numbers of a file that gives corner, width and height.
        difficult: Whether the file marks it as one that a detector need not find.
        score: Of a prediction.
    """

    xyxy: tuple[float, float, float, float]
    category: str | None
    label: str
    segmentation: Any = None
    crowd: bool = False
    xywh: tuple[float, float, float, float] | None = None
    difficult: bool = False
    score: float | None = None


@dataclass
class RawPicture:
    """An image as its annotation file describes it; ``size`` is width, height."""

    name: str
    path: str
    size: tuple[float, float] | None
    boxes: list[RawBox] = field(default_factory=list)


@dataclass
class RawFault:
    """What the file says and no picture or box can show.

    Attributes:
        kind: One of the kinds of :data:`mmdet.checks.dataset_doctor.LEVELS`.
        where: Name of the picture, or of the file.
    """

    kind: str
    where: str
    detail: str
    picture: RawPicture | None = None


@dataclass
class RawAnnotations:
    """All that the annotation files of a dataset hold.

    Attributes:
        report: What the reader repaired, left out and refused, each finding kept.
        faults: The same, with the pictures it belongs to.
        with_boxes: Whether pictures can have boxes at all; else no class is missed.
    """

    source: str
    categories: list[str]
    pictures: list[RawPicture] = field(default_factory=list)
    faults: list[RawFault] = field(default_factory=list)
    report: Report = field(default_factory=lambda: Report(''))
    with_boxes: bool = True

    def take_faults(self, pictures: Mapping[Any, RawPicture]) -> None:
        """Make :attr:`faults` of the findings of :attr:`report`; ``pictures`` are by image id."""
        for finding in self.report.findings:
            picture = pictures.get(finding.image_id)
            detail = f'{finding.entry} {finding.detail}'
            self.faults.append(RawFault(finding.kind, finding.where, detail, picture))


def parsed_annotations(
    dataset: BaseDataset, name_of: Callable[[dict, dict], str | None] | None = None
) -> RawAnnotations:
    """The samples that a dataset loads, in the same form, where its reader tells no more.

    Args:
        name_of: Names the class of an instance of a sample, where ``bbox_label`` does not number the classes of the
            ``metainfo``. What it names are the categories.
    """
    samples = dataset.load_data_list()
    classes = list(dataset.metainfo.get('classes') or ())
    raw = RawAnnotations(str(dataset.ann_file), classes)
    pictures = {}
    for sample in samples:
        size = (sample['width'], sample['height']) if 'width' in sample and 'height' in sample else None
        picture = RawPicture(str(sample.get('img_id', sample['img_path'])), sample['img_path'], size)
        raw.pictures.append(picture)
        pictures[sample.get('img_id')] = picture
        for number, instance in enumerate(sample.get('instances', ()), start=1):
            label, (x1, y1, x2, y2) = instance['bbox_label'], instance['bbox']
            category = classes[label] if 0 <= label < len(classes) else None
            if name_of is not None:
                category = name_of(sample, instance)
            crowd = bool(instance.get('ignore_flag', 0))
            picture.boxes.append(RawBox((x1, y1, x2, y2), category, f'object {number}', instance.get('mask'), crowd))
    if name_of is not None:
        found = (box.category for picture in raw.pictures for box in picture.boxes)
        raw.categories = list(dict.fromkeys(name for name in found if name is not None))
        raw.report = getattr(dataset, 'report', raw.report)
        raw.take_faults(pictures)
    return raw
