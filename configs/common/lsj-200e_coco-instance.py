_base_ = './lsj-100e_coco-instance.py'

train_dataloader = dict(batch_size=8, num_workers=4)

optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=0.08))
