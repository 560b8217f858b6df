"""`similis config`: every value and where it came from."""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    print_json,
    print_table,
)
from dicom_node.settings import Setting, load


def config(data: DataOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Print the configuration as the node would read it, with the source of every value."""
    settings = [_masked(setting) for setting in load(config, flags={"data": data}).settings()]
    if json:
        print_json({s.key: {"value": s.value, "source": s.source} for s in settings})
        return
    print_table(
        "Configuration", ("key", "value", "source"), [(s.key, s.value, s.source) for s in settings]
    )


def _masked(setting: Setting) -> Setting:
    """Hide the password of a database URL."""
    if setting.key != "storage.database_url" or not setting.value:
        return setting
    try:
        return Setting(setting.key, make_url(str(setting.value)).render_as_string(), setting.source)
    except ArgumentError:
        return Setting(setting.key, "(not a URL)", setting.source)
