from abc import ABCMeta, abstractmethod

from mmdet.errors import UserValueError


class BaseBBoxCoder(metaclass=ABCMeta):
    """Turns boxes into regression targets relative to priors, and back.

    ``encode_size`` is the number of values that describe one box.
    """

    encode_size = 4

    def __init__(self, use_box_type: bool = False, **kwargs) -> None:
        self.use_box_type = use_box_type

    @abstractmethod
    def encode(self, bboxes, gt_bboxes):
        """Targets of ``gt_bboxes`` relative to ``bboxes``."""

    @abstractmethod
    def decode(self, bboxes, bboxes_pred):
        """Boxes of predictions relative to ``bboxes``."""


def check_pairs(priors, values, prior_size: int = 4, value_size: int = 4) -> None:
    """Refuse priors ``(..., prior_size)`` and values ``(..., k * value_size)`` that do not belong to each other."""
    pairs = zip(reversed(priors.shape[:-1]), reversed(values.shape[:-1]))
    sizes = priors.shape[-1] == prior_size and values.shape[-1] % value_size == 0
    if not sizes or any(a != b and 1 not in (a, b) for a, b in pairs):
        raise UserValueError(
            f'priors are (..., {prior_size}) and what belongs to them (..., {value_size}), '
            f'not {tuple(priors.shape)} and {tuple(values.shape)}'
        )


def clamp_boxes(boxes, max_shape):
    """Clip xyxy ``(..., 4)`` to (H, W), or ``(B, N, 4)`` to one (H, W) for each image; in graphs that
    are exported, to a list of one for all."""
    import torch

    from mmdet.models.core.constants import constant
    from mmdet.ops.fixed_size import is_fixed_size

    if max_shape is None:
        return boxes
    if not isinstance(max_shape, torch.Tensor) and not isinstance(max_shape[0], (list, tuple, torch.Tensor)):
        height, width = max_shape[:2]
        x1, y1, x2, y2 = boxes.unflatten(-1, (-1, 4)).unbind(-1)
        clipped = [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)]
        return torch.stack(clipped, -1).flatten(-2)
    if isinstance(max_shape, torch.Tensor) or isinstance(max_shape[0], torch.Tensor):
        limits = torch.as_tensor(max_shape, device=boxes.device)[..., :2].to(boxes.dtype)
    else:
        limits = constant([tuple(shape[:2]) for shape in max_shape], boxes)
    one_for_all = is_fixed_size() and len(limits) == 1
    if limits.dim() == 2 and (boxes.dim() != 3 or not (one_for_all or len(limits) == boxes.shape[0])):
        raise UserValueError(f'max_shape of {len(limits)} images, but boxes of shape {tuple(boxes.shape)}')
    limits = limits.flip(-1).repeat(*[1] * (limits.dim() - 1), boxes.shape[-1] // 2)
    if limits.dim() == 2:
        limits = limits[:, None]
    return torch.minimum(boxes.clamp(min=0), limits)


def clip_to_middles(boxes, max_shape):
    """Clip xyxy ``(..., 4)`` to the middles of the outer pixels of one (H, W), or ``(B, ..., 4)`` to a
    list of one of each; in graphs that are exported, to a list of one for all."""
    import torch

    from mmdet.ops.fixed_size import is_fixed_size

    if isinstance(max_shape[0], (list, tuple, torch.Size)):
        if is_fixed_size() and len(max_shape) == 1:
            return clip_to_middles(boxes, max_shape[0])
        return torch.stack([clip_to_middles(image, shape) for image, shape in zip(boxes, max_shape)])
    height, width = max_shape[:2]
    x, y = boxes[..., 0::2].clamp(0, width - 1), boxes[..., 1::2].clamp(0, height - 1)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)
