from __future__ import annotations

import importlib.util
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, is_main_process
from mmengine.logging import MMLogger

from mmdet.errors import UserFileError, UserImportError, UserRuntimeError, UserValueError
from mmdet.registry import METRICS

from ..functional.cityscapes_utils import evaluateImgLists
from .pictures import PictureMetric
from .samples import to_numpy


@METRICS.register_module()
class CityScapesMetric(PictureMetric):
    """Instance segmentation AP of Cityscapes by its own scripts (``pip install cityscapesscripts``).

    Args:
        outfile_prefix: A folder for the results in Cityscapes' format: for each picture a list of its objects, and a
            mask of each. It is emptied first.
        seg_prefix: Folder of the ``*_gtFine_instanceIds.png``, in a subfolder for each city.
        format_only: Write the results and evaluate nothing.
        dump_matches: Print the table of the scripts as well.
    """

    default_prefix: str | None = 'cityscapes'

    def __init__(
        self,
        outfile_prefix: str,
        seg_prefix: str | None = None,
        format_only: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        dump_matches: bool = False,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not outfile_prefix:
            raise UserValueError('CityScapesMetric writes its results to files: outfile_prefix must name a folder.')
        if importlib.util.find_spec('cityscapesscripts') is None:
            raise UserImportError('CityScapesMetric needs the Cityscapes scripts: pip install cityscapesscripts')
        if file_client_args is not None:
            raise UserRuntimeError('file_client_args is no longer taken; use backend_args (see mmengine.fileio).')
        if not format_only and seg_prefix is None:
            raise UserValueError('CityScapesMetric needs seg_prefix, the folder of the ground truth, to evaluate.')
        self.folder = Path(outfile_prefix).absolute() / 'results'
        self.seg_prefix = None if seg_prefix is None else Path(seg_prefix).absolute()
        self.format_only = format_only
        self.dump_matches = dump_matches
        self.backend_args = backend_args
        if is_main_process():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        barrier()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        import cv2
        from cityscapesscripts.helpers.labels import name2label

        for data_sample in data_samples:
            path = Path(data_sample['img_path'])
            pred = data_sample['pred_instances']
            scores = to_numpy(pred['mask_scores'] if 'mask_scores' in pred else pred['scores'])
            lines = []
            for i, (mask, label, score) in enumerate(zip(pred['masks'], to_numpy(pred['labels']), scores, strict=True)):
                name = self.dataset_meta['classes'][label]
                file = f'{path.stem}_{i}_{name}.png'
                cv2.imwrite(str(self.folder / file), as_bitmap(mask))
                lines.append(f'{file} {name2label[name].id} {score}')
            listing = self.folder / f'{path.stem}_pred.txt'
            listing.write_text('\n'.join(lines) + '\n' if lines else '')
            truth = path.name.replace('leftImg8bit.png', 'gtFine_instanceIds.png')
            self.results.append((str(listing), None if self.format_only else str(self._truth(path, truth))))

    def _truth(self, path: Path, name: str) -> Path:
        assert self.seg_prefix is not None  # only format_only goes without
        truth = self.seg_prefix / path.parent.name / name
        if not truth.is_file():
            raise UserFileError(f'{path.name} has no ground truth {truth}; is seg_prefix the folder of the cities?')
        return truth

    def compute_metrics(self, results: list) -> dict[str, float]:
        logger = MMLogger.get_current_instance()
        if self.format_only:
            logger.info(f'The results are saved in {self.folder}.')
            return OrderedDict()
        import cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling as scripts
        from terminaltables import AsciiTable

        options = scripts.args
        options.predictionPath = str(self.folder)
        options.predictionWalk = None
        options.gtInstancesFile = str(self.folder / 'gtInstances.json')
        options.JSONOutput = options.colorized = False
        results = self.tested(results, [dict(img_path=listing) for listing, _ in results])
        predictions, truths = (list(column) for column in zip(*results, strict=True))
        averages = evaluateImgLists(predictions, truths, options, self.backend_args, self.dump_matches)['averages']
        rows = [['class', 'AP(%)', 'AP50(%)']]
        for name, values in averages['classes'].items():
            rows.append([name, *(f'{100 * values[key]:.2f}' for key in ('ap', 'ap50%'))])
        rows.append(['average', f'{100 * averages["allAp"]:.2f}', f'{100 * averages["allAp50%"]:.2f}'])
        table = AsciiTable(rows)
        table.inner_footing_row_border = True
        logger.info('\n' + table.table)
        return OrderedDict([('mAP', float(averages['allAp'])), ('AP@50', float(averages['allAp50%']))])


def as_bitmap(mask) -> np.ndarray:
    """A mask or RLE as an image of zeros and ones."""
    if isinstance(mask, dict):
        from mmdet.structures.mask import bitmaps_of

        return bitmaps_of([mask])[0]
    return to_numpy(mask).astype(np.uint8)
