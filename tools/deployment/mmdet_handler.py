"""What TorchServe runs for a detector that tools/deployment/mmdet2torchserve.py has packed.

The server takes pictures as the body of a request, or as base64 in JSON, and answers for each with its detections:
``class_label``, ``class_name``, ``bbox`` (x1, y1, x2, y2 in pixels of the picture) and ``score``. Called by hand it
answers for one picture without a server:

    python tools/deployment/mmdet_handler.py FOLDER picture.jpg
"""

import base64
import json
import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)))


class MMdetHandler:
    """The handler: TorchServe calls :meth:`initialize` once and :meth:`handle` with a batch of requests.

    Detections below ``threshold`` are left out; the variable MMDET_SCORE_THR sets another.
    """

    threshold = 0.5

    def __init__(self):
        self.model = self.device = None
        self.initialized = False

    def initialize(self, context):
        """Load the detector from the folder into which the server has unpacked its archive."""
        import torch

        from mmdet.apis import init_detector

        folder, gpu = context.system_properties['model_dir'], context.system_properties.get('gpu_id')
        self.device = f'cuda:{gpu}' if torch.cuda.is_available() and gpu is not None else 'cpu'
        checkpoint = os.path.join(folder, context.manifest['model']['serializedFile'])
        self.model = init_detector(os.path.join(folder, 'config.py'), checkpoint, device=self.device)
        self.threshold = float(os.environ.get('MMDET_SCORE_THR', self.threshold))
        self.initialized = True

    def preprocess(self, data):
        """Pictures (h, w, 3), BGR, of the requests."""
        from mmdet.utils.pictures import decode_picture

        pictures = []
        for row in data:
            content = row.get('data') if row.get('data') is not None else row.get('body')
            if isinstance(content, str):
                content = base64.b64decode(content)
            pictures.append(decode_picture(bytes(content), 'of the request'))
        return pictures

    def inference(self, pictures):
        from mmdet.apis import inference_detector

        return inference_detector(self.model, pictures)

    def postprocess(self, results):
        """For each picture a list of its detections, as JSON can write them."""
        classes = self.model.dataset_meta['classes']
        answers = []
        for result in results:
            found = result.pred_instances
            found = found[found.scores >= self.threshold]
            rows = zip(found.labels.tolist(), found.bboxes.tolist(), found.scores.tolist())
            answers.append(
                [
                    dict(class_label=label, class_name=classes[label], bbox=box, score=score)
                    for label, box, score in rows
                ]
            )
        return answers

    def handle(self, data, context):
        if not self.initialized:
            self.initialize(context)
        return self.postprocess(self.inference(self.preprocess(data)))


def main(argv=None):
    import argparse
    from pathlib import Path
    from types import SimpleNamespace

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='an unpacked archive: config.py and the weights')
    parser.add_argument('picture', type=Path)
    args = parser.parse_args(argv)
    weights = [path.name for path in args.folder.iterdir() if path.suffix in ('.pth', '.safetensors')]
    if len(weights) != 1:
        parser.error(f'{args.folder} holds {len(weights)} files of weights, not one')
    context = SimpleNamespace(
        system_properties=dict(model_dir=str(args.folder), gpu_id=0),
        manifest=dict(model=dict(serializedFile=weights[0])),
    )
    print(json.dumps(MMdetHandler().handle([dict(body=args.picture.read_bytes())], context)[0], indent=1))


if __name__ == '__main__':
    sys.exit(main())
