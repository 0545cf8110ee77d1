"""What libraries warn of is said once, in one line of ours, and nowhere else."""

import io
import logging
import warnings

from rich.console import Console

from pipeline.runner.library_warnings import LibraryWarnings, show_library_warnings


def test_each_warning_is_one_line_once(capfd):
    console = Console(file=io.StringIO(), width=40)
    logging.captureWarnings(False)  # else it stays on, and on the hook of an earlier test
    try:
        show_library_warnings(console)
        show_library_warnings(console)  # once more, as a second run in one process
        for _ in range(2):
            logging.getLogger("transformers.tokenization").warning("525 > 512\nwill result in errors")
            warnings.warn("old and\nodd", UserWarning, stacklevel=1)
        logging.getLogger("transformers.modeling").info("nothing")
    finally:
        logging.captureWarnings(False)
        for name in ("transformers", "py.warnings"):
            logger = logging.getLogger(name)
            logger.handlers = [item for item in logger.handlers if not isinstance(item, LibraryWarnings)]
    said = console.file.getvalue().splitlines()
    assert said[0] == "note: transformers: 525 > 512 will result in errors"
    assert len(said) == 2
    assert said[1] == "note: Python: old and odd"  # without the line of code that warned
    assert capfd.readouterr() == ("", "")
