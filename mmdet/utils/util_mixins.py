from __future__ import annotations

import warnings


class NiceRepr:
    """A short ``repr`` and ``str`` from ``__nice__``, which is the length of what has one.

    Example:
        >>> class Student(NiceRepr):
        ...     def __nice__(self):
        ...         return 'Alice'
        >>> str(Student())
        '<Student(Alice)>'
    """

    def __nice__(self) -> str:
        if hasattr(self, '__len__'):
            return str(len(self))
        raise NotImplementedError(f'define __nice__, or __len__, for {type(self).__name__}')

    def __repr__(self) -> str:
        try:
            return f'<{type(self).__name__}({self.__nice__()}) at {hex(id(self))}>'
        except NotImplementedError as error:
            warnings.warn(str(error), category=RuntimeWarning, stacklevel=2)
            return object.__repr__(self)

    def __str__(self) -> str:
        try:
            return f'<{type(self).__name__}({self.__nice__()})>'
        except NotImplementedError as error:
            warnings.warn(str(error), category=RuntimeWarning, stacklevel=2)
            return object.__repr__(self)
