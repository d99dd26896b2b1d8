from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'det_runner': 'DetRunner',
        'resume_state': 'ResumeState',
        'loops': 'EpochBasedTrainLoop IterBasedTrainLoop TeacherStudentValLoop ValLoop',
    },
)
