from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'det_data_sample': 'DetDataSample OptSampleList SampleList',
        'track_data_sample': 'OptTrackSampleList TrackDataSample TrackSampleList',
        'bbox': '',
        'mask': '',
    },
)
