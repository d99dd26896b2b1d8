"""The smallest detector of every algorithm of the catalogue as an ONNX and a .pt2 file, beside itself.

3 and 1 pictures are run and, but for detectors of one size, of two sizes that the graph has not been traced with.
"""

import re
from pathlib import Path

import pytest
from algorithms import FAMILIES_WITH_MODELS, detector, pictures, predicted, sizes, smallest, squeeze
from config_files import resolve, whole
from one_step import reads
from test_one_step import why_not

from mmdet.apis.exporting import difference_of
from mmdet.errors import UserRuntimeError
from mmdet.export.form import Exportable
from mmdet.export.formats import FORMATS, Request, options_for, write_file
from mmdet.export.metadata import Metadata
from mmdet.export.runtime import open_file

DOCUMENT = Path(__file__).parents[2] / 'docs' / 'export.md'
QUICK = {('centernet', 'onnx'), ('ssd', 'pt2')}  # the others are slow
# algorithm -> why its detector is no file; docs/export.md has the same table
REASONS = {
    'fast_rcnn': 'it needs proposals besides pictures',
    'glip': 'it needs texts besides pictures',
    'grounding_dino': 'it needs texts besides pictures',
    'mm_grounding_dino': 'it needs texts besides pictures',
}
# algorithm -> tolerances of scores, boxes and masks, where random weights make other results of rounding
LOOSE = {
    'mask2former': (1e-2, 0.1, 0.1),  # a query sees where a mask is above 0.5, which random ones often nearly are
}
ALGORITHMS = [family for family in FAMILIES_WITH_MODELS if smallest(family)]


def exported(family, name, folder, bert=None):
    """The worst difference of a file from its detector, over the sizes it is run with."""
    divisor, traced, runs = sizes(family)
    model = squeeze(detector(family, bert))
    form = Exportable(model, options=options_for(name, 100))
    about = Metadata('test', name, size=list(traced), outputs=form.outputs, masks=form.masks, divisor=divisor)
    about.dynamic_batch, about.dynamic_size = True, bool(runs)
    path = write_file(form, Request(folder / f'detector{FORMATS[name].suffix}', about, traced, say=str))
    session, total = open_file(path), None
    for count, size in zip((3, 1), runs or (traced, traced), strict=True):
        step = session.metadata.divisor if runs else 1
        images = pictures(count, [-(-side // step) * step for side in size], seed=5)
        size = tuple(images.shape[-2:])
        difference = difference_of(predicted(model, form, images), session(images), session.metadata, size)
        assert difference.pairs or difference.masks is not None, 'nothing is found'
        total = difference if total is None else total.joined(difference)
    return total


@pytest.mark.parametrize(
    'family, name',
    [
        pytest.param(family, name, marks=() if (family, name) in QUICK else pytest.mark.slow)
        for family in ALGORITHMS
        for name in ('onnx', 'pt2')
    ],
)
def test_smallest_detector_of_an_algorithm(family, name, tmp_path, default_scope, request):
    if name == 'onnx':
        pytest.importorskip('onnxscript')
        pytest.importorskip('onnxruntime')
    bert = request.getfixturevalue('tiny_bert') if reads(resolve(smallest(family))['model']) else None
    if family in REASONS:
        with pytest.raises(UserRuntimeError, match=REASONS[family].partition(':')[0]):
            exported(family, name, tmp_path, bert)
        return
    difference = exported(family, name, tmp_path)
    assert difference.within(*LOOSE.get(family, ())), difference


def test_reasons_are_few_and_told():
    assert set(REASONS) <= set(ALGORITHMS) and len(REASONS) < len(ALGORITHMS) / 10
    told = dict(re.findall(r'^\| `(\w+)` \| (.+?) \|$', DOCUMENT.read_text(), re.M))
    assert {family: told.get(family) for family in REASONS} == REASONS


def test_every_algorithm_that_works_is_tried():
    left = {
        family: {why_not(config) for config in whole(family)} for family in set(FAMILIES_WITH_MODELS) - set(ALGORITHMS)
    }
    assert all(None not in reasons for reasons in left.values()), left
