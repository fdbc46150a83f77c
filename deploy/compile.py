"""Makes machine code of the click path and the rules, by mypyc: `python -m deploy.compile [--root DIR]`.

`DIR` is where the packages lie (this project's folder). The result goes into DIR/lastcookie_compiled, whole or not at
all; nothing else is touched. It needs a C compiler and Python's headers (Debian: gcc python3-dev), and mypy.
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
    parser = argparse.ArgumentParser(description="Compile the click path and the rules.")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the packages lie")
    root = parser.parse_args().root.resolve()
    if is_current(root / FOLDER, root):
        print(f"{root / FOLDER}: is of the present sources")
        return
    with TemporaryDirectory(dir=root, prefix=f"{FOLDER}.") as draft:
        made = Path(draft) / "made"
        _compile(root, made, Path(draft) / "work")
        sign(made, root)
        shutil.rmtree(root / FOLDER, ignore_errors=True)
        made.rename(root / FOLDER)
    print(f"{root / FOLDER}: made")


def _compile(root: Path, made: Path, work: Path) -> None:
    os.chdir(root)  # mypy takes a file's path for its module's name
    paths = [str(path.relative_to(root)) for path in sources(root)]
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
