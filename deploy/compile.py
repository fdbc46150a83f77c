"""Makes machine code of the modules named in schemas/compiled.py, by mypyc: `python -m deploy.compile [--into DIR]`.

The result goes into DIR/lastcookie_compiled, whole or not at all; DIR is this project's folder, or where these same
packages have been installed. It needs a C compiler and Python's headers (Debian: gcc python3-dev), and mypy.
"""

import argparse
import os
import shutil
import sys
import sysconfig
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.compiled import FOLDER, ROOT, is_current, sign, sources

_RECIPE = "recipe"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the click path.")
    parser.add_argument("--check", action="store_true", help="only say whether there is what it takes")
    parser.add_argument("--into", type=Path, default=ROOT, help="where the packages that are run lie; default: here")
    options = parser.parse_args()
    if options.check:
        sys.exit(1 if missing() else 0)
    target = options.into.resolve() / FOLDER
    if is_current(target) and _recipe_of(target) == _recipe():
        print(f"{FOLDER}: is of the present sources")
        return
    if packages := missing():
        sys.exit(f"cannot compile without {' '.join(packages)}")
    os.umask(0o022)  # whoever runs it must be able to read it
    with TemporaryDirectory(dir=target.parent, prefix=f"{FOLDER}.") as draft:
        made = Path(draft) / "made"
        _compile(made, Path(draft) / "work")
        sign(made)
        (made / _RECIPE).write_text(_recipe())
        os.sync()  # a file that a loss of power has emptied would look whole
        if target.exists():
            target.rename(Path(draft) / "old")
        made.rename(target)
    print(f"{FOLDER}: made")


def missing() -> list[str]:
    """Debian's packages that it takes and that are not here."""
    packages = [] if shutil.which("cc") else ["gcc", "libc6-dev"]
    return packages if Path(sysconfig.get_path("include"), "Python.h").exists() else [*packages, "python3-dev"]


def _recipe() -> str:
    """Another one for every change of the compiler, or of what it is told."""
    texts = [Path(__file__).read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    versions = f"{version('mypy')} {version('setuptools')}".encode()
    return blake2b(b"".join([versions, *texts]), digest_size=16).hexdigest()


def _recipe_of(target: Path) -> str:
    recipe = target / _RECIPE
    return recipe.read_text() if recipe.exists() else ""


def _compile(made: Path, work: Path) -> None:
    from mypyc.build import mypycify  # here, as others ask what is missing
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    os.chdir(ROOT)  # mypy takes a file's path for its module's name
    paths = [str(path.relative_to(ROOT)) for path in sources()]
    extensions = mypycify(
        paths, opt_level="2", debug_level="0", multi_file=True, group_name="lastcookie", target_dir=str(work)
    )
    command = build_ext(Distribution({"name": "lastcookie-compiled", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(made), str(work)
    command.finalize_options()
    command.run()


if __name__ == "__main__":
    main()
