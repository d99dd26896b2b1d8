"""The errors for users: one base, and the builtin kinds that callers catch."""

import pickle

import pytest

from mmdet import errors
from mmdet.registry import MODELS, UnknownArgumentError, UnknownNameError

KINDS = {
    errors.UserValueError: ValueError,
    errors.UserTypeError: TypeError,
    errors.UserKeyError: KeyError,
    errors.UserFileError: FileNotFoundError,
    errors.UserImportError: ImportError,
    errors.UserNotImplementedError: NotImplementedError,
    errors.UserRuntimeError: RuntimeError,
}


@pytest.mark.parametrize('cls', KINDS)
def test_one_base_and_the_builtin_kind(cls):
    error = pickle.loads(pickle.dumps(cls("scale is -1, it must be positive, like '2'")))
    assert type(error) is cls
    assert str(error) == "scale is -1, it must be positive, like '2'"
    for caught in (errors.UserError, AssertionError, KINDS[cls]):
        with pytest.raises(caught):
            raise error


def test_the_registries_blame_the_user():
    assert issubclass(UnknownNameError, errors.UserKeyError)
    assert {errors.UserTypeError, errors.UserValueError} <= set(UnknownArgumentError.__mro__)
    with pytest.raises(errors.UserError, match='RetinaHead'):
        MODELS.build(dict(type='RetinaHaed'))
    with pytest.raises(errors.UserError, match='gamma'):
        MODELS.build(dict(type='FocalLoss', gama=2))
