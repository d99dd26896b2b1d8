"""The command ``mmdet``: one small module for each sub-command, which the table in ``main.py`` names."""
