from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'config_check': (
            'ConfigError Finding check_config load_with_options require_known_names require_known_options require_sound'
        ),
        'dataset_doctor': 'Diagnosis Problem Split examine polygon_problem',
        'doctor_report': 'as_html as_json as_text',
    },
)
