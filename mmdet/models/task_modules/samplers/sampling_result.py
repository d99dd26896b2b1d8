from mmdet.models.core.sampling_result import SamplingResult

__all__ = ['SamplingResult']
