_base_ = './reid_r50_8xb32-6e_mot15train80_test-mot15val20.py'

data_root = 'data/MOT16/'

model = dict(head=dict(num_classes=371))

train_dataloader = dict(dataset=dict(data_root=data_root))

val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
