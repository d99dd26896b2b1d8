__version__ = '0.1.0'


def parse_version_info(version_str: str) -> tuple[int, ...]:
    """``'1.2.3'`` as ``(1, 2, 3)``; a suffix such as ``rc1`` is left out."""
    return tuple(int(part) for part in version_str.split('.') if part.isdigit())


version_info = parse_version_info(__version__)
