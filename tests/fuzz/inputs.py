"""Kinds of inputs: sound files made in code, and what a seeded source of randomness makes of them.

Each kind is a class. ``prepare`` makes what all inputs share, ``write`` one input, ``read`` is what the package does
with it. Everything is made below one folder.
"""

import contextlib
import io
import json
import os
import pickle
import pickletools
import re
import socket
import sys
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / 'checks'))
from defects import picture, sound_coco, sound_voc
from harm import NAMES, ODD, damage, deep, twist, twisted_pickle

CONFIG = """
default_scope = 'mmdet'
custom_imports = dict(imports=['fuzz_canary'])
model = dict(
    type='RetinaNet',
    backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(0, 1), init_cfg=dict(type='Pretrained', checkpoint='http://127.0.0.1/x.pth')),
    neck=dict(type='FPN', in_channels=[4, 8], out_channels=4, num_outs=2),
    bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=4, feat_channels=4, stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
            strides=[8, 16])))
pipeline = [
    dict(type='LoadImageFromFile', backend_args=None), dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]
test_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=pipeline_text))
"""


# --------------------------------------------------------------------------------------------------------------------
# Kinds
class Kind:
    """A kind of inputs.

    Args:
        folder: Where everything is.
    """

    port = None

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()

    def prepare(self):
        """Make what all inputs share."""

    def warm_up(self):
        """Import what reading needs."""
        from random import Random

        for number in range(20):
            with contextlib.suppress(Exception):  # an input like the others; only what it imports is wanted
                self.read(self.write(Random(f'warm {number}')))


class Checkpoint(Kind):
    """Files of torch, new and old, plain pickles, detectron2's, safetensors."""

    def prepare(self):
        generator = torch.Generator().manual_seed(0)
        weights = OrderedDict((f'layer{i}.weight', torch.rand(3, i + 1, generator=generator)) for i in range(4))
        weights._metadata = OrderedDict([('', dict(version=1))])
        plain = dict(
            meta=dict(epoch=2, iter=16, cfg=CONFIG, seed=1, dataset_meta=dict(classes=('a', 'b'), palette=[(1, 2, 3)])),
            optimizer=dict(state={0: dict(step=1, buffer=np.arange(4.0))}, param_groups=[dict(lr=0.1, params=[0])]),
            message_hub=dict(log_scalars={}, runtime_info=dict(best=np.float64(0.5)), resumed_keys={'a': True}),
            names={'x'},
        )
        whole = dict(plain, state_dict=weights, alias=weights, half=weights['layer0.weight'].half())
        self.pickles = [pickle.dumps(dict(model=plain, __author__='x'), protocol) for protocol in range(6)]
        new, old = io.BytesIO(), io.BytesIO()
        torch.save(whole, new)
        flat = torch.rand(24, generator=generator)  # one storage: several are in the order of their addresses
        views = OrderedDict((f'layer{i}.weight', flat[6 * i : 6 * i + 3 + i].view(3 + i, 1)) for i in range(4))
        torch.save(dict(plain, state_dict=views), old, _use_new_zipfile_serialization=False)
        fixed = re.sub(rb'(?s)X.\0\0\0\d{8,}', lambda _: b'X\4\0\0\x001000', old.getvalue())
        self.zip, self.old, self.safe = new.getvalue(), fixed, None
        try:
            from safetensors.torch import save
        except ImportError:
            pass
        else:
            self.safe = save({name: value.clone() for name, value in weights.items()})

    def write(self, rng):
        kind = rng.choice(('zip', 'records', 'records', 'old', 'old operations', 'pickle', 'operations', 'safe'))
        suffix = '.pth'
        if kind == 'zip':
            data = damage(rng, self.zip)
        elif kind == 'records':
            data = self.other_records(rng)
        elif kind == 'old':
            data = damage(rng, self.old)
        elif kind == 'old operations':
            data = self.other_old(rng)
        elif kind == 'safe' and self.safe:
            data, suffix = damage(rng, self.safe), '.safetensors'
        else:
            data = rng.choice(self.pickles)
            data, suffix = (damage if kind == 'pickle' else twisted_pickle)(rng, data), rng.choice(('.pkl', '.pth'))
        path = self.folder / 'run' / f'epoch_2{suffix}'
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        (path.parent / 'last_checkpoint').write_text(path.name)
        return path

    def other_records(self, rng):
        """A zip file whose checksums fit, with other records."""
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self.zip)) as source, zipfile.ZipFile(file, 'w') as target:
            for info in source.infolist():
                data, name = source.read(info), info.filename
                if name.endswith('data.pkl'):
                    data = twisted_pickle(rng, data)
                elif rng.random() < 0.05:
                    data = damage(rng, data)
                elif rng.random() < 0.05:
                    name = rng.choice(
                        (name + 'x', '../' + name, 'archive/data.pkl', 'archive/constants.pkl', name * 200)
                    )
                for _ in range(rng.choice((1,) * 30 + (0, 2))):
                    target.writestr(zipfile.ZipInfo(name), data, rng.choice((0,) * 30 + (8,)))
        return file.getvalue()

    def other_old(self, rng):
        """The file of torch before 1.6 with another third pickle, which holds the state."""
        file = io.BytesIO(self.old)
        for _ in range(3):
            pickle.load(file)
        start = file.tell()
        list(pickletools.genops(file))
        end = file.tell()
        return self.old[:start] + twisted_pickle(rng, self.old[start:end]) + self.old[end:]

    def read(self, path):
        from mmdet.config import stored_config
        from mmdet.errors import UserError
        from mmdet.utils.checkpoint import label_of, read_checkpoint
        from mmdet.utils.resumable import lacks, newest_readable
        from mmdet.utils.tensor_files import read_results

        label_of(path)
        for reader in (read_results, newest_readable):
            with contextlib.suppress(UserError):
                reader(path if reader is read_results else path.parent)
        checkpoint = read_checkpoint(path)
        lacks(checkpoint)
        meta = checkpoint.get('meta')
        return stored_config(meta.get('cfg'), path.name) if isinstance(meta, dict) else checkpoint


class Stored(Kind):
    """Texts of configs that come with weights, and what is built from them."""

    def write(self, rng):
        text = CONFIG.replace('pipeline_text', '[]')
        for _ in range(rng.choice((1, 2, 3))):
            kind = rng.randrange(6)
            if kind == 0:
                text = damage(rng, text.encode()).decode('utf-8', 'replace')
            elif kind < 4:  # another type
                parts = text.split("type='")
                place = rng.randrange(len(parts))
                name = rng.choice((*NAMES, 'mmdet.RetinaNet', 'ResNet', 'RetinaNet', 'Compose', 'mmengine.ModuleList'))
                more = rng.choice(('', '', ", command='touch /tmp/xyz'", ", _scope_='fuzz_canary'", ', checkpoint=1'))
                parts[place] = f"{name}'{more}{parts[place][parts[place].find(chr(39)) + 1 :]}"
                text = "type='".join(parts)
            elif kind == 4:
                text += rng.choice(
                    (
                        'import os\n',
                        '__import__("os").system("touch /tmp/xyz")\n',
                        'x = [i for i in range(9)]\n',
                        'x = ' + deep(rng, '[', ']') + '\n',
                        'x = ' + deep(rng, '-', '1') + '\n',
                        'x = ' + '1+' * rng.choice((10, 3000)) + '1\n',
                        "default_scope = 'fuzz_canary'\n",
                        "x = f'{1}'\n",
                        'x = dict(a=1)[0]\n',
                        'x = (lambda: 1)()\n',
                    )
                )
            else:
                text = text.replace(rng.choice(('4', '8', '64', '2', 'True')), repr(rng.choice(ODD[:12])), 1)
        return text

    def read(self, text):
        from mmdet.config import building, stored_config
        from mmdet.registry import MODELS, TRANSFORMS

        cfg = stored_config(text, 'weights.pth')
        with building(cfg):
            for step in cfg.get('pipeline') or []:
                TRANSFORMS.build(step)
            return MODELS.build(cfg.model)


class Coco(Kind):
    """COCO files with boxes and masks."""

    def prepare(self):
        from random import Random

        self.sound = sound_coco(Random(1))
        self.where = self.sound.write(self.folder)

    def write(self, rng):
        kind, path = rng.randrange(10), self.folder / 'train.json'
        text = json.dumps(self.sound.content if kind < 2 else twist(rng, self.sound.content)).encode('utf-8')
        if kind == 0:
            text = damage(rng, text)
        elif kind == 1:
            place = rng.choice([place for place, byte in enumerate(text) if byte in b'[{,:'])
            text = (
                text[:place]
                + deep(rng, rng.choice(('[', '{"a":', '"', '1')), rng.choice((']', '}'))).encode()
                + text[place:]
            )
        path.write_bytes(text)
        return dict(self.where)

    def read(self, where):
        return read_dataset(where)


class Voc(Kind):
    """VOC's XML files."""

    def prepare(self):
        from random import Random

        self.sound = sound_voc(Random(1))
        self.where = self.sound.write(self.folder)

    def write(self, rng):
        name = rng.choice(sorted(self.sound.xml))
        text = self.sound.xml[name]
        for file, sound in self.sound.xml.items():
            (self.folder / 'Annotations' / f'{file}.xml').write_text(sound)
        for _ in range(rng.choice((1, 1, 2, 3))):
            start = text.find('<', rng.randrange(len(text) + 1))
            end = text.find('>', start) + 1
            kind = rng.randrange(7)
            if kind == 0:
                text = damage(rng, text.encode()).decode('latin1')
            elif kind == 1:
                text = text[:start] + text[end:]
            elif kind == 2:
                text = text[:end] + text[start:end] + text[end:]
            elif kind == 3:
                text = text[:start] + deep(rng, '<a>', '</a>') + text[start:]
            elif kind == 4:
                text = attack_by_entities(rng, text)
            else:
                value = rng.choice(
                    ('-1', '0', 'nan', 'inf', '1e999', '9' * 5000, '', ' 3 ', 'x', '1_0', '0x10', '٣', '\t', '1.5')
                )
                end = text.find('<', text.find('>', start))
                text = text[: text.find('>', start) + 1] + value + text[end:]
        data = text.encode(rng.choice(('utf-8',) * 9 + ('utf-16',)), 'replace')
        (self.folder / 'Annotations' / f'{name}.xml').write_bytes(data)
        return dict(self.where)

    def read(self, where):
        return read_dataset(where)


def attack_by_entities(rng, text):
    laughs = '<!ENTITY a "ha">' + ''.join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(rng.choice((2, 5, 12)))
    )
    kind = rng.choice((laughs, '<!ENTITY m SYSTEM "file:///etc/passwd">', '<!ENTITY m SYSTEM "http://127.0.0.1:9/x">'))
    return f'<!DOCTYPE x [{kind}]>' + text.replace('<name>', f'<name>&{rng.choice("bfm")};', 1)


def read_dataset(where):
    """All samples of a data set, as training reads them."""
    from mmdet.registry import DATASETS

    steps = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask='Coco' in where['type']),
    ]
    dataset = DATASETS.build(
        dict(where, pipeline=[*steps, dict(type='PackDetInputs')], filter_cfg=dict(filter_empty_gt=True))
    )
    return [dataset[index] for index in range(len(dataset))]


class Config(Kind):
    """Configs in JSON and YAML, read and checked."""

    def prepare(self):
        from mmdet.config import parse_stored_config

        values = parse_stored_config(
            CONFIG.replace('pipeline_text', '[]').replace("custom_imports = dict(imports=['fuzz_canary'])", '')
        )
        schedule = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10)]
        values.update(
            param_scheduler=schedule, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
        )
        values.update(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)))
        self.values = json.loads(json.dumps(values))

    def write(self, rng):
        import yaml

        values = twist(rng, self.values) if rng.random() < 0.8 else dict(self.values)
        if rng.random() < 0.1:
            values['_base_'] = rng.choice(
                ('x.json', './config.json', ['a', 'b'], '../../../etc/passwd', 'mmdet::x', 3, '')
            )
        try:
            text = yaml.safe_dump(values) if (as_yaml := rng.random() < 0.5) else json.dumps(values)
        except yaml.YAMLError:
            text, as_yaml = json.dumps(values), False
        if as_yaml and rng.random() < 0.4:
            payload = rng.choice(
                (
                    '!!python/object/apply:os.system ["touch /tmp/xyz"]',
                    '!!python/name:os.system ""',
                    '!!python/module:fuzz_canary ""',
                    '!!python/object/new:tuple [[1]]',
                    '!!binary "AAAA"',
                    '!!timestamp 2020-01-01',
                    '&a [*a]',
                    deep(rng, '[', ']'),
                    '{? [1, 2] : 3}',
                    '!<tag:x> 3',
                )
            )
            text += f'\nmore: {payload}\n'
            if rng.random() < 0.3:
                text += 'b: &b [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
                    f'{chr(99 + i)}: &{chr(99 + i)} [{", ".join([f"*{chr(98 + i)}"] * 10)}]\n' for i in range(8)
                )
        data = text.encode('utf-8', 'surrogatepass')
        path = self.folder / f'config.{"yaml" if as_yaml else "json"}'
        path.write_bytes(damage(rng, data) if rng.random() < 0.3 else data)
        return path

    def read(self, path):
        from mmdet.checks import check_config
        from mmdet.config import load_config

        return check_config(load_config(path), path)


class Picture(Kind):
    """Pictures in every format that there is an encoder for."""

    def prepare(self):
        from random import Random

        from PIL import Image

        image = Image.open(io.BytesIO(picture(Random(3), 40, 30)))
        self.files = {}
        for suffix in ('jpg', 'png', 'gif', 'bmp', 'tiff', 'webp', 'ppm'):
            file = io.BytesIO()
            image.save(file, dict(jpg='JPEG', tiff='TIFF', ppm='PPM').get(suffix, suffix.upper()))
            self.files[suffix] = file.getvalue()

    def write(self, rng):
        suffix = rng.choice(sorted(self.files))
        path = self.folder / f'picture.{suffix}'
        data = self.files[suffix]
        if rng.random() < 0.3:  # the sizes in the header
            place = rng.randrange(min(len(data), 64))
            data = data[:place] + rng.choice((b'\xff\xff', b'\0\0', b'\x7f\xff\xff\xff')) + data[place + 2 :]
        path.write_bytes(damage(rng, data))
        return path

    def read(self, path):
        from mmdet.errors import UserError
        from mmdet.utils.pictures import picture_size, read_picture

        with contextlib.suppress(UserError):
            picture_size(str(path))
        return read_picture(str(path), flag='color')


class Http(Kind):
    """Answers of a server, from their first byte on."""

    def prepare(self):
        file = io.BytesIO()
        torch.save(dict(state_dict=dict(a=torch.ones(30))), file)
        self.content = file.getvalue()
        self.server = socket.create_server(('127.0.0.1', 0))
        self.port = self.server.getsockname()[1]
        self.answer, self.silent = b'', False
        os.environ.update(MMDET_DOWNLOAD_TIMEOUT='0.2', TORCH_HOME=str(self.folder / 'home'), no_proxy='127.0.0.1')
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.server.accept()
            try:
                connection.settimeout(2)
                connection.recv(4096)
                connection.sendall(self.answer)
                if self.silent:
                    threading.Event().wait(0.5)
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            finally:
                connection.close()

    def write(self, rng):
        content = self.content if rng.random() < 0.7 else damage(rng, self.content)
        size = str(len(content))
        heads = [
            (
                'Content-Length',
                rng.choice((size, size, size, '0', '-1', '1e9', '9' * 30, 'x', size + ', 3', str(2**50))),
            ),
            ('Content-Type', rng.choice(('application/octet-stream', 'text/html', 'x/y; charset=\xff', ''))),
            ('Content-Encoding', rng.choice(('identity', 'gzip', 'br', ''))),
            ('Transfer-Encoding', rng.choice(('chunked', 'gzip, chunked', 'identity'))),
            (
                'Location',
                rng.choice(
                    (
                        '/a',
                        'file:///etc/passwd',
                        'ftp://x/y',
                        'http://127.0.0.1:1/',
                        '//',
                        '\0',
                        'http://[::1',
                        'data:,x',
                    )
                ),
            ),
            ('X' * rng.choice((1, 70_000)), 'y'),
        ]
        chosen = [head for head in heads if rng.random() < 0.4]
        others = ('302 Found', '404 no', '100 Continue', '206 x', '', '2000')
        status = rng.choice(('HTTP/1.1 200 OK',) * 6 + ('', 'HTTP/9 x', *(f'HTTP/1.1 {other}' for other in others)))
        lines = [status, *(f'{key}: {value}' for key, value in chosen)]
        head = '\r\n'.join(lines).encode('latin1', 'replace') + b'\r\n\r\n'
        if any(key == 'Transfer-Encoding' for key, _ in chosen):
            content = b'%x\r\n' % rng.choice((len(content), 3, 2**40, 0)) + content + b'\r\n0\r\n\r\n'
        answer = head + content
        self.answer = damage(rng, answer) if rng.random() < 0.4 else answer
        self.silent = rng.random() < 0.03
        name = rng.choice(('w.pth', 'w-12345678.pth', 'w.pkl', '', 'a b', '..', '%2e%2e%2fx.pth', 'x' * 400))
        return f'http://127.0.0.1:{self.port}/{rng.randrange(10**9)}/{name}'

    def read(self, url):
        from mmdet.utils.checkpoint import read_checkpoint

        return read_checkpoint(url)


KINDS = {kind.__name__.lower(): kind for kind in (Checkpoint, Stored, Coco, Voc, Config, Picture, Http)}
