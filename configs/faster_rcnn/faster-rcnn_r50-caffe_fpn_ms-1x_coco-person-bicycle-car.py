_base_ = './faster-rcnn_r50-caffe_fpn_ms-1x_coco-person.py'

metainfo = dict(classes=('person', 'bicycle', 'car'), palette=[(220, 20, 60), (119, 11, 32), (0, 0, 142)])

model = dict(roi_head=dict(bbox_head=dict(num_classes=3)))

train_dataloader = dict(dataset=dict(metainfo=metainfo))

val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader
