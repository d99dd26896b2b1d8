"""Box types by name, and the conversions between them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from mmdet.errors import UserKeyError, UserTypeError, UserValueError


class RegisteredBoxes:
    """What this module, which lies below :class:`~mmdet.structures.bbox.base_boxes.BaseBoxes`, knows of it."""

    tensor: Tensor

    def convert_to(self, dst_type: str | type) -> Any:
        """These boxes as another registered box type."""
        return convert_box_type(self, dst_type=dst_type)


BoxType = np.ndarray | Tensor | RegisteredBoxes

box_types: dict[str, type] = {}
_box_type_to_name: dict[type, str] = {}
box_converters: dict[str, Callable] = {}


def register_box(name: str, box_type: type | None = None, force: bool = False) -> type | Callable[[type], type]:
    """Give a subclass of :class:`BaseBoxes` a name that configs use (``box_type='hbox'``); also as a decorator."""
    if not isinstance(force, bool):
        raise UserTypeError(f'force must be a bool, not {force!r}')

    def register(cls: type) -> type:
        if not (isinstance(cls, type) and issubclass(cls, RegisteredBoxes)):
            raise UserTypeError(f'a box type must inherit from BaseBoxes; {cls!r} does not')
        key = name.lower()
        if not force and (key in box_types or cls in _box_type_to_name):
            raise UserKeyError(
                f'box type {key!r} or class {cls.__name__} is already registered; force=True replaces it'
            )
        if key in box_types:
            _box_type_to_name.pop(box_types[key], None)
        if cls in _box_type_to_name:
            box_types.pop(_box_type_to_name[cls], None)
        box_types[key] = cls
        _box_type_to_name[cls] = key
        return cls

    return register if box_type is None else register(box_type)


def register_box_converter(
    src_type: str | type, dst_type: str | type, converter: Callable | None = None, force: bool = False
) -> Callable:
    """Register ``converter(src: Tensor) -> Tensor`` between two box types; also as a decorator."""
    if not isinstance(force, bool):
        raise UserTypeError(f'force must be a bool, not {force!r}')
    key = f'{get_box_type(src_type)[0]}2{get_box_type(dst_type)[0]}'

    def register(function: Callable) -> Callable:
        if not callable(function):
            raise UserTypeError(f'a box converter must be callable; {function!r} is not')
        if not force and key in box_converters:
            raise UserKeyError(f'box converter {key!r} is already registered; force=True replaces it')
        box_converters[key] = function
        return function

    return register if converter is None else register(converter)


def get_box_type(box_type: str | type) -> tuple[str, type]:
    """Name and class of a box type that is given by either."""
    if isinstance(box_type, str):
        name = box_type.lower()
        if name not in box_types:
            near = difflib.get_close_matches(name, box_types, n=1, cutoff=0)
            raise UserKeyError(f'box type {box_type!r} is not registered. Did you mean {near[0]!r}?')
        return name, box_types[name]
    if isinstance(box_type, type) and issubclass(box_type, RegisteredBoxes):
        if box_type not in _box_type_to_name:
            raise UserKeyError(f'{box_type.__name__} is not registered as a box type')
        return _box_type_to_name[box_type], box_type
    raise UserTypeError(f'a box type is a name or a subclass of BaseBoxes, not {box_type!r}')


def convert_box_type(
    boxes: BoxType, *, src_type: str | type | None = None, dst_type: str | type | None = None
) -> BoxType:
    """Boxes as ``dst_type``, in the kind of container they came in (array, tensor or boxes)."""
    if dst_type is None:
        raise UserValueError('convert_box_type needs dst_type')
    if isinstance(boxes, RegisteredBoxes):
        src_type = type(boxes)
    elif src_type is None:
        raise UserValueError('an array or tensor does not know its box type; give src_type')
    src_name, _ = get_box_type(src_type)
    dst_name, dst_class = get_box_type(dst_type)
    if src_name == dst_name:
        return boxes
    key = f'{src_name}2{dst_name}'
    if key not in box_converters:
        raise UserKeyError(
            f'no conversion {key!r} is registered (there are: {", ".join(sorted(box_converters)) or "none"})'
        )
    converter = box_converters[key]
    if isinstance(boxes, RegisteredBoxes):
        return dst_class(converter(boxes.tensor))
    if isinstance(boxes, Tensor):
        return converter(boxes)
    return converter(Tensor(boxes)).numpy()


def autocast_box_type(dst_box_type: str | type = 'hbox') -> Callable:
    """Decorator of a transform's method: ``gt_bboxes`` of ``results`` and of its ``mix_results`` reach it as boxes.

    Arrays are taken as boxes of ``dst_box_type`` for the call, and what entered as arrays leaves as arrays.
    """
    _, box_class = get_box_type(dst_box_type)

    def decorate(function: Callable) -> Callable:
        from functools import wraps

        @wraps(function)
        def wrapper(self, results: dict, *args, **kwargs):
            arrays = []
            for sample in (results, *results.get('mix_results', ())):
                boxes = sample.get('gt_bboxes')
                if isinstance(boxes, RegisteredBoxes):
                    sample['gt_bboxes'] = boxes.convert_to(dst_box_type)
                elif isinstance(boxes, np.ndarray):
                    sample['gt_bboxes'] = box_class(boxes)
                    arrays.append(sample)
                elif boxes is not None:
                    raise UserTypeError(f"results['gt_bboxes'] must be boxes or an array, not {type(boxes).__name__}")
            output = function(self, results, *args, **kwargs)
            if arrays and arrays[0] is results and isinstance(output, dict):
                arrays.append(output)
            for sample in arrays:
                if isinstance(sample.get('gt_bboxes'), RegisteredBoxes):
                    sample['gt_bboxes'] = sample['gt_bboxes'].numpy()
            return output

        return wrapper

    return decorate
