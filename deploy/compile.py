"""Makes machine code of the modules named in schemas/compiled.py, by mypyc: `python -m deploy.compile [--into DIR]`.

The result goes into DIR/lastcookie_compiled, whole or not at all; DIR is this project's folder, or where these same
packages have been installed. It needs a C compiler and Python's headers (Debian: gcc python3-dev), and mypy.
"""

import argparse
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

from schemas.compiled import FOLDER, ROOT, is_current, sign, sources


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the click path.")
    parser.add_argument("--into", type=Path, default=ROOT, help="where the packages that are run lie; default: here")
    target = parser.parse_args().into.resolve() / FOLDER
    if is_current(target):
        print(f"{FOLDER}: is of the present sources")
        return
    with TemporaryDirectory(dir=target.parent, prefix=f"{FOLDER}.") as draft:
        made = Path(draft) / "made"
        _compile(made, Path(draft) / "work")
        sign(made)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    print(f"{FOLDER}: made")


def _compile(made: Path, work: Path) -> None:
    os.chdir(ROOT)  # mypy takes a file's path for its module's name
    paths = [str(path.relative_to(ROOT)) for path in sources()]
    # multi_file: a C file for each module, so that they can be compiled at once
    extensions = mypycify(
        paths, opt_level="2", debug_level="0", multi_file=True, group_name="lastcookie", target_dir=str(work)
    )
    command = build_ext(Distribution({"name": "lastcookie-compiled", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(made), str(work)
    command.finalize_options()
    command.run()


if __name__ == "__main__":
    main()
