from mmdet.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        'bert': 'BertEncoder BertModel generate_masks_with_special_tokens_and_transfer_map',
    },
)
