from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'loading': 'load_config uses_read_base',
        'files': 'config_files config_root find_config is_name packaged_config resolve_config',
        'bases': 'diff_to_base merged_bases',
        'literal': 'parse_stored_config',
        'stored': 'StoredConfig building stored_config',
        'version2': 'is_v2 translate_v2',
        'batch_size': 'batch_size_message',
        'mmengine_repairs': 'installed_path is_installed repair_mmengine',
        'sections': 'RUNNER_KEYS dataset_classes datasets_of innermost_datasets pipelines_around',
    },
)
