from __future__ import annotations

from mmdet.registry import DATASETS

from .captioned import CaptionedDataset


@DATASETS.register_module()
class MDETRStyleRefCocoDataset(CaptionedDataset):
    """RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO as MDETR writes them: an entry of ``images`` for each expression.

    ``tokens_positive`` is -1: the expression as a whole is looked for. ``bbox_label`` is the ``category_id``, which is
    -1 where the expression names nothing in the picture.
    """

    def _sample(self, image: dict, annotations: list[dict]) -> dict:
        sample = super()._sample(image, annotations)
        return dict(sample, dataset_mode='VG', custom_entities=False, tokens_positive=-1)
