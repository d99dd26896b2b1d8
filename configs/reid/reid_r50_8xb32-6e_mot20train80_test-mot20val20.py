_base_ = './reid_r50_8xb32-6e_mot15train80_test-mot15val20.py'

data_root = 'data/MOT20/'

model = dict(head=dict(num_classes=1701))

train_dataloader = dict(dataset=dict(data_root=data_root))

val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

train_cfg = dict(val_interval=7)
