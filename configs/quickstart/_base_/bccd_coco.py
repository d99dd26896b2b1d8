# The same pictures through COCO JSON, as tools/dataset_converters/pascal_voc.py writes it.
dataset_type = 'CocoDataset'
data_root = 'data/bccd_coco/'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'), palette=[(220, 20, 60), (65, 105, 225), (46, 139, 87)])
