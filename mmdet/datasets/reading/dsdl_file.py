"""Data sets in DSDL (https://opendatalab.github.io/dsdl-docs/): YAML that defines types, and samples of such a type.

Only data is read: other than by the package ``dsdl``, no file is turned into code.
"""

from __future__ import annotations

import difflib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml
from mmengine import fileio

from mmdet.errors import UserFileError, UserValueError

from .values import short

Place = tuple[str | int, ...]
"""Which object of a sample a value belongs to: keys and indices down to the last list; empty for the sample itself."""


@dataclass(frozen=True)
class Field:
    """A value that samples may have.

    Attributes:
        path: Keys down to it, ``*`` for the elements of a list.
        kind: Name of its type, in lower case.
        options: Of its type, as text, such as ``mode`` or ``dom``.
    """

    path: tuple[str, ...]
    kind: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        return '/'.join(('.', *self.path))

    def values_of(self, sample: dict) -> dict[Place, Any]:
        """The values in a sample; those that it lacks are left out."""
        lists = [i for i, key in enumerate(self.path) if key == '*']
        depth = lists[-1] + 1 if lists else 0
        return {place[:depth]: value for place, value in _walk(sample, self.path)}


def _walk(node: Any, path: Sequence[str], place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if not path:
        if node is not None:
            yield place, node
    elif path[0] == '*':
        for i, element in enumerate(node if isinstance(node, list) else ()):
            yield from _walk(element, path[1:], (*place, i))
    elif isinstance(node, dict) and path[0] in node:
        yield from _walk(node[path[0]], path[1:], (*place, path[0]))


def value_at(values: Mapping[Place, Any], place: Place, default: Any = None) -> Any:
    """The value of an object, or of the nearest one that it is a part of."""
    for depth in range(len(place), -1, -1):
        if place[:depth] in values:
            return values[place[:depth]]
    return default


class DSDLFile:
    """One part of a data set, such as ``set-train/train.yaml``.

    Attributes:
        samples: As they are in the files.
        fields: What samples may have.
        domains: Names of the classes of each domain, in the order of their labels.
    """

    def __init__(self, path: str, backend_args: dict | None = None) -> None:
        self.path, self.backend_args = path, backend_args
        content = self._yaml(path)
        self._definitions = self._defined(content)
        data = content.get('data')
        if not isinstance(data, dict) or 'sample-type' not in data:
            raise UserValueError(f"{path!r} is no set of samples of DSDL: it has no data with a 'sample-type'")
        self.domains: dict[str, list[str]] = {
            name: [str(label).strip() for label in value.get('classes', ())]
            for name, value in self._definitions.items()
            if value.get('$def') == 'class_domain'
        }
        self.fields = list(self._fields_of(data['sample-type'], {}, ()))
        self.samples: list[dict] = list(self._samples(data))

    # ---------------------------------------------------------------------------------------------------- files

    def _yaml(self, path: str) -> dict:
        loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
        try:
            content = yaml.load(fileio.get_text(path, backend_args=self.backend_args), loader)
        except yaml.YAMLError as error:
            raise UserValueError(f'{path!r} is no YAML: {" ".join(str(error).split())}') from error
        if not isinstance(content, dict):
            raise UserValueError(f'{path!r} holds {short(content)}, not the keys of DSDL')
        return content

    def _defined(self, content: dict) -> dict[str, dict]:
        """Definitions of the files that are imported, and of this one, which come before them."""
        folder, found = posixpath.dirname(self.path), {}
        for name in content.get('$import', ()):
            places = [posixpath.join(folder, f'{name.strip()}.yaml'), posixpath.join(folder, f'../defs/{name}.yaml')]
            path = next((p for p in places if fileio.exists(p, backend_args=self.backend_args)), None)
            if path is None:
                raise UserFileError(f'{self.path!r} imports {name!r}, but there is neither {" nor ".join(places)}')
            imported = self._yaml(path)
            found.update(imported.get('defs', imported))
        found.update(content.get('defs', {}))
        return {name: value for name, value in found.items() if isinstance(value, dict)}

    def _samples(self, data: dict) -> Iterator[dict]:
        where = data.get('sample-path', '$local')
        if where in ('local', '$local'):
            if 'samples' not in data:
                raise UserValueError(f"{self.path!r}: data has neither 'samples' nor a 'sample-path' with a file")
            yield from data['samples']
            return
        folder, paths = posixpath.dirname(self.path), []
        for name in [where] if isinstance(where, str) else where:
            path = posixpath.join(folder, name)
            if fileio.isdir(path, backend_args=self.backend_args):
                names = fileio.list_dir_or_file(path, list_dir=False, backend_args=self.backend_args)
                paths += [posixpath.join(path, each) for each in sorted(names)]
            else:
                paths.append(path)
        for path in paths:
            if path.lower().endswith('.json'):
                content = json.loads(fileio.get_text(path, backend_args=self.backend_args))
            else:
                content = self._yaml(path)
            if 'samples' not in content:
                raise UserValueError(f"{path!r} has no 'samples'")
            yield from content['samples']

    # ---------------------------------------------------------------------------------------------------- types

    def _fields_of(self, text: str, given: Mapping[str, str], path: tuple[str, ...]) -> Iterator[Field]:
        """Fields of a type as it is written, such as ``List[etype=LocalObject[cdom=$cdom]]``.

        Args:
            given: Values of the parameters, which are written with a ``$``.
        """
        kind, plain, options = parse_type(text)
        options = {key: given.get(value, value) for key, value in options.items()}
        if kind == 'List':
            yield from self._fields_of(options.get('etype', plain[0] if plain else 'Any'), given, (*path, '*'))
        elif kind not in self._definitions:
            yield Field(path, kind.lower(), options)
        elif len(path) > 50:
            raise UserValueError(f'{self.path!r}: {kind} is a part of itself')
        else:
            parameters = {f'${key}': value for key, value in options.items()}
            for name, field in self._definitions[kind].get('$fields', {}).items():
                yield from self._fields_of(field, parameters, (*path, name))

    def of_kind(self, kind: str) -> list[Field]:
        """The fields of a type."""
        return [field for field in self.fields if field.kind == kind.lower()]

    def at(self, pattern: str) -> list[Field]:
        """The fields at a path such as ``./annotations/*/iscrowd``; names may have wildcards too.

        Raises:
            UserValueError: there is none.
        """
        keys = pattern.removeprefix('./').split('/')
        found = [
            field for field in self.fields if len(field.path) == len(keys) and all(map(fnmatchcase, field.path, keys))
        ]
        if not found:
            known = [str(field) for field in self.fields]
            near = difflib.get_close_matches(pattern, known, n=1, cutoff=0) or ['nothing']
            raise UserValueError(f'{self.path!r} defines nothing at {pattern!r}; the nearest is {near[0]!r}')
        return found

    # --------------------------------------------------------------------------------------------------- labels

    def domains_of(self, field: Field) -> list[str]:
        """Names of the domains that the labels of a field are of."""
        names = [name.strip() for name in field.options.get('dom', '').strip('[]').split(',') if name.strip()]
        unknown = [name for name in names if name not in self.domains]
        if unknown or not names:
            raise UserValueError(
                f'{self.path!r}: {field} is of the class domain {unknown or names}, which is undefined'
            )
        return names

    def label(self, field: Field, value: Any) -> str:
        """The name of the class of a label: itself, its number from 1, or ``domain::name``."""
        names = self.domains_of(field)
        domain, separator, name = value.partition('::') if isinstance(value, str) else ('', '', value)
        if not separator:
            domain, name = names[0], value
        classes = self.domains.get(domain, [])
        if isinstance(name, int) and not isinstance(name, bool) and 1 <= name <= len(classes):
            return classes[name - 1]
        if name not in classes:
            raise UserValueError(f'{self.path!r}: label {value!r} at {field} is none of {short(classes)}')
        return name


def parse_type(text: str) -> tuple[str, list[str], dict[str, str]]:
    """The name of a type, its unnamed and its named arguments, as text."""
    match = re.fullmatch(r'\s*(\w+)\s*(?:\[(.*)\])?\s*', str(text), re.DOTALL)
    if match is None:
        raise UserValueError(f'{text!r} is no type of DSDL')
    plain, named = [], {}
    for argument in _split(match[2] or ''):
        key, separator, value = argument.partition('=')
        if separator and key.strip().isidentifier():
            named[key.strip()] = value.strip()
        else:
            plain.append(argument)
    return match[1], plain, named


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no bracket."""
    parts, depth = [''], 0
    for character in text:
        depth += (character == '[') - (character == ']')
        if character == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
