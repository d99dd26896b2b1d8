"""What a run's config changes in its bases: kept beside the report, since the config in a work dir has no bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdet.apis import report_page as html
from mmdet.apis.finished import trained_config
from mmdet.errors import UserError

CHANGES = 'config_changes.txt'


def keep_changes(cfg: Any, out: Path) -> None:
    """Write ``config_changes.txt``: the config's file, then a line for each key that it changes, adds or leaves out."""
    if not getattr(cfg, 'filename', None):
        return
    from mmdet.config.bases import diff_to_base

    try:
        lines = diff_to_base(cfg, cfg.filename)
    except (UserError, OSError):  # there is no base, or the file is gone
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / CHANGES).write_text('\n'.join([str(cfg.filename), *lines]) + '\n', encoding='utf-8')


def config_section(cfg: Any, folder: Path, out: Path) -> str:
    """The changes in colours, and the whole config.

    Args:
        cfg: None for the one in ``folder``, if there is one.
        out: Folder of the report.
    """
    text = ''
    if (out / CHANGES).is_file():
        file, *lines = (out / CHANGES).read_text(encoding='utf-8').splitlines()
        kinds = {'+': 'added', '-': 'gone'}
        changed = '\n'.join(
            f'<span class="{kinds[line[0]]}">{html.escape(line)}</span>' if line[:1] in kinds else html.escape(line)
            for line in lines
        )
        text = f'<p>What {html.escape(file)} changes in its bases:</p><pre>{changed}</pre>'
    whole = _text_of(folder) if cfg is None else cfg.pretty_text
    if not whole:
        return text
    return f'{text}<details><summary>the whole config</summary><pre>{html.escape(whole)}</pre></details>'


def _text_of(folder: Path) -> str:
    try:
        return trained_config(folder).read_text(encoding='utf-8')
    except (UserError, UnicodeDecodeError):
        return ''
