from mmdet.models.core.assign_result import AssignResult

__all__ = ['AssignResult']
