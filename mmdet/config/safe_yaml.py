"""YAML for ``mmengine.load`` and configs: plain values, no constructors, and aliases that cost what they show."""

from __future__ import annotations

from typing import Any

from mmdet.errors import UserValueError

MAX_DEPTH = 100
MAX_COPIES = 1_000_000  # values that a file may repeat by aliases


def load_yaml(text: str | bytes) -> Any:
    """The plain values of a YAML text.

    Raises:
        UserValueError: it is nested too deep, or its aliases stand for more than a million values.
        yaml.YAMLError: it is no YAML, or asks for a constructor.
    """
    import yaml

    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    _check(yaml, yaml.parse(text, Loader=loader))
    return yaml.load(text, Loader=loader)


def _check(yaml: Any, events: Any) -> None:
    sizes: dict[str, int] = {}  # values below each anchor, with what its aliases repeat
    open_nodes: list[list] = []  # anchor and size so far
    copies = 0
    for event in events:
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
            if len(open_nodes) > MAX_DEPTH:
                raise UserValueError(f'YAML that is nested more than {MAX_DEPTH} deep is not read')
            if event.anchor:
                sizes[event.anchor] = MAX_COPIES + 1  # an alias within its own node would never end
            continue
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
            copies += size
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            if anchor:
                sizes[anchor] = size
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        elif event.anchor:
            sizes[event.anchor] = 1
        if open_nodes:
            open_nodes[-1][1] += size
        if copies > MAX_COPIES:
            raise UserValueError(f'YAML whose aliases stand for more than {MAX_COPIES} values is not read')


def register_safe_yaml() -> None:
    """Let ``mmengine.load`` and ``Config.fromfile`` read YAML by :func:`load_yaml`."""
    from mmengine.fileio.handlers import BaseFileHandler, register_handler

    class SafeYamlHandler(BaseFileHandler):
        """YAML of plain values only: mmengine's own handler runs constructors named in the file."""

        def load_from_fileobj(self, file, **kwargs):
            return load_yaml(file.read())

        def dump_to_fileobj(self, obj, file, **kwargs):
            import yaml

            yaml.safe_dump(obj, file, **kwargs)

        def dump_to_str(self, obj, **kwargs):
            import yaml

            return yaml.safe_dump(obj, **kwargs)

    register_handler(['yaml', 'yml'])(SafeYamlHandler)
