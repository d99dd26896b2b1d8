"""Names for types that signatures repeat."""

from typing import List, Optional, Sequence, Tuple, Union  # noqa: UP035

from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData

ConfigType = Union[ConfigDict, dict]  # noqa: UP007
OptConfigType = Optional[ConfigType]  # noqa: UP045
MultiConfig = Union[ConfigType, List[ConfigType]]  # noqa: UP006, UP007
OptMultiConfig = Optional[MultiConfig]  # noqa: UP045

InstanceList = List[InstanceData]  # noqa: UP006
OptInstanceList = Optional[InstanceList]  # noqa: UP045
PixelList = List[PixelData]  # noqa: UP006
OptPixelList = Optional[PixelList]  # noqa: UP045

RangeType = Sequence[Tuple[int, int]]  # noqa: UP006
