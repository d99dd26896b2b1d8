from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor

from .base_bbox_coder import BaseBBoxCoder


@TASK_UTILS.register_module()
class PseudoBBoxCoder(BaseBBoxCoder):
    """Predictions that are boxes already."""

    def encode(self, bboxes, gt_bboxes):
        return get_box_tensor(gt_bboxes)

    def decode(self, bboxes, pred_bboxes):
        return HorizontalBoxes(pred_bboxes) if self.use_box_type else pred_bboxes
