"""The command line: one small file per command."""

import os
import sys

from dicom_node.errors import ConfigError, SimilisError
from encoder.errors import EncoderError
from index.errors import CatalogueError
from training.errors import TrainingError

FAILED = 1
BAD_USAGE = 2


def main() -> None:
    """Run `similis`: exit code 0 done, 1 the operation failed, 2 bad usage or configuration."""
    from dicom_node.cli.app import app

    os.umask(0o077)  # everything below the data folder may hold names of patients
    try:
        app()
    except ConfigError as error:
        _leave(error, BAD_USAGE)
    except (SimilisError, CatalogueError, EncoderError, TrainingError) as error:
        _leave(error, FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        _leave(f"{error.filename}: {error.strerror}", FAILED)


def _leave(error: object, code: int) -> None:
    sys.stderr.write(f"similis: {error}\n")
    sys.exit(code)
