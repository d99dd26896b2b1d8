"""What is known and predicted about the frames of one video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import List, Optional  # noqa: UP035

from mmengine.structures import BaseDataElement

from mmdet.errors import UserTypeError, UserValueError
from mmdet.structures.det_data_sample import DetDataSample


class TrackDataSample(BaseDataElement):
    """A list of :class:`DetDataSample`, one per frame, with the meta information of the video.

    ``key_frames_inds`` and ``ref_frames_inds`` (meta information, lists of indices) say which frames are which.
    """

    @property
    def video_data_samples(self) -> list[DetDataSample]:
        """One sample for each frame."""
        return self._video_data_samples

    @video_data_samples.setter
    def video_data_samples(self, value: DetDataSample | list[DetDataSample]) -> None:
        value = [value] if isinstance(value, DetDataSample) else value
        if not isinstance(value, list) or not value or not all(isinstance(v, DetDataSample) for v in value):
            raise UserTypeError('video_data_samples must be a non-empty list of DetDataSample')
        self.set_field(value, '_video_data_samples', dtype=list)

    @video_data_samples.deleter
    def video_data_samples(self) -> None:
        del self._video_data_samples

    def __getitem__(self, index: int) -> DetDataSample:
        return self._video_data_samples[index]

    def __len__(self) -> int:
        return len(self._video_data_samples) if hasattr(self, '_video_data_samples') else 0

    def __iter__(self) -> Iterator[DetDataSample]:
        return iter(self._video_data_samples)

    def get_key_frames(self) -> list[DetDataSample]:
        """Frames that ``key_frames_inds`` of the metainfo names."""
        return self._frames('key_frames_inds')

    def get_ref_frames(self) -> list[DetDataSample]:
        """Frames that ``ref_frames_inds`` of the metainfo names."""
        return self._frames('ref_frames_inds')

    def _frames(self, name: str) -> list[DetDataSample]:
        if name not in self.metainfo_keys():
            raise UserValueError(f'the video sample has no meta information {name!r}')
        return [self[index] for index in getattr(self, name)]

    def _converted(self, method: str, *args, **kwargs) -> TrackDataSample:
        new = self.new()
        new.video_data_samples = [getattr(frame, method)(*args, **kwargs) for frame in self]
        return new

    def to(self, *args, **kwargs) -> TrackDataSample:
        return self._converted('to', *args, **kwargs)

    def cpu(self) -> TrackDataSample:
        return self._converted('cpu')

    def cuda(self) -> TrackDataSample:
        return self._converted('cuda')

    def detach(self) -> TrackDataSample:
        return self._converted('detach')

    def numpy(self) -> TrackDataSample:
        return self._converted('numpy')

    def to_tensor(self) -> TrackDataSample:
        return self._converted('to_tensor')


TrackSampleList = List[TrackDataSample]  # noqa: UP006
OptTrackSampleList = Optional[TrackSampleList]  # noqa: UP045
