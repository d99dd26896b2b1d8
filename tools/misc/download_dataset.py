"""Download a data set from where its authors offer it.

python tools/misc/download_dataset.py --dataset-name coco2017 --save-dir data/coco --unzip
"""

import argparse
import os
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))
from mmdet.apis.conversion import run

COCO = 'http://images.cocodataset.org'
VOC = 'http://host.robots.ox.ac.uk/pascal/VOC'
OBJECTS365 = 'https://dorc.ks3-cn-beijing.ksyuncs.com/data-set/2020Objects365%E6%95%B0%E6%8D%AE%E9%9B%86'
ADDRESSES = {
    'coco2017': [
        *[f'{COCO}/zips/{split}2017.zip' for split in ('train', 'val', 'test', 'unlabeled')],
        *[f'{COCO}/annotations/{kind}annotations_trainval2017.zip' for kind in ('', 'stuff_', 'panoptic_')],
        *[f'{COCO}/annotations/image_info_{split}2017.zip' for split in ('test', 'unlabeled')],
    ],
    'coco2014': [
        *[f'{COCO}/zips/{split}2014.zip' for split in ('train', 'val', 'test')],
        f'{COCO}/annotations/annotations_trainval2014.zip',
        f'{COCO}/annotations/image_info_test2014.zip',
    ],
    'lvis': [
        f'https://s3-us-west-2.amazonaws.com/dl.fbaipublicfiles.com/LVIS/lvis_v1_{split}.json.zip'
        for split in ('train', 'val')
    ],
    'voc2007': [
        f'{VOC}/voc2007/{name}'
        for name in ('VOCtrainval_06-Nov-2007.tar', 'VOCtest_06-Nov-2007.tar', 'VOCdevkit_08-Jun-2007.tar')
    ],
    'voc2012': [f'{VOC}/voc2012/VOCtrainval_11-May-2012.tar'],
    'balloon': ['https://github.com/matterport/Mask_RCNN/releases/download/v2.1/balloon_dataset.zip'],
    'ade20k_2016': [
        'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip',
        'http://data.csail.mit.edu/places/ADEchallenge/annotations_instance.tar',
    ],
    'refcoco': [
        f'https://bvisionweb1.cs.unc.edu/licheng/referit/data/{name}.zip'
        for name in ('refcoco', 'refcoco+', 'refcocog')
    ],
    'objects365v2': [
        f'{OBJECTS365}/train/zhiyuan_objv2_train.tar.gz',
        f'{OBJECTS365}/val/zhiyuan_objv2_val.json',
        *[f'{OBJECTS365}/train/patch{i}.tar.gz' for i in range(51)],
        *[f'{OBJECTS365}/val/images/{"v1" if i < 16 else "v2"}/patch{i}.tar.gz' for i in range(44)],
    ],
}


def place_of(dataset, url):
    """Below the folder of the data set; that of Objects365 has equal names in two parts."""
    parts = url.rsplit('/', 4)
    split = next((part for part in parts if part in ('train', 'val')), '') if dataset == 'objects365v2' else ''
    return Path(split) / parts[-1]


def unpack(path):
    """Unpack an archive beside itself; nothing in it can lie elsewhere."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            archive.extractall(path.parent, filter='data')
    else:
        return False
    return True


def fetch(url, target, unzip, delete):
    from mmdet.utils.downloads import fetch_to

    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file():
        print(f'{url} -> {target}')
        fetch_to(url, target)
    if unzip and unpack(target) and delete:
        target.unlink()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--dataset-name', choices=ADDRESSES, default='coco2017')
    parser.add_argument('--save-dir', type=Path, default=Path('data/coco'), help='folder to write to')
    parser.add_argument('--unzip', action='store_true', help='unpack the archives')
    parser.add_argument('--delete', action='store_true', help='remove the archives that were unpacked')
    parser.add_argument('--threads', type=int, default=4, help='files that are fetched side by side')
    args = parser.parse_args(argv)
    os.environ.setdefault('MMDET_DOWNLOAD_LIMIT', '100')  # one file of COCO has 19 GiB
    with ThreadPoolExecutor(max(args.threads, 1)) as pool:
        jobs = [
            pool.submit(fetch, url, args.save_dir / place_of(args.dataset_name, url), args.unzip, args.delete)
            for url in ADDRESSES[args.dataset_name]
        ]
    for job in jobs:
        job.result()


if __name__ == '__main__':
    run(main)
