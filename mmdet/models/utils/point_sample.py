from mmdet.models.core.uncertain_points import get_uncertain_point_coords_with_randomness, get_uncertainty

__all__ = ['get_uncertain_point_coords_with_randomness', 'get_uncertainty']
