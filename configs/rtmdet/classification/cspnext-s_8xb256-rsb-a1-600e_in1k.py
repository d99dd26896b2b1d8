_base_ = './cspnext-l_8xb256-rsb-a1-600e_in1k.py'

model = dict(backbone=dict(deepen_factor=0.33, widen_factor=0.5), head=dict(in_channels=512))
