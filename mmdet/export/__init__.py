"""Detectors as files for other runtimes, and the proof that these compute the same."""

from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'exported_detector': 'ExportedDetector',
        'form': 'Exportable',
        'formats': 'FORMATS',
        'metadata': 'Metadata',
        'proof': 'Difference compare compare_maps',
        'runtime': 'Session open_file',
        'tracing': 'trace',
    },
)
