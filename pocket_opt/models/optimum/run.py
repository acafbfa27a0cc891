"""Run the graphs that lie beside this file on arrays of your own: `python run.py --help`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the runner beside this file, also under `python -I`
sys.dont_write_bytecode = True  # the bundle stays as it was written

from runner.command import main  # type: ignore[import-not-found]  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(HERE))
