"""Runs a command as a systemd unit would confine it, where no systemd runs: for the tests of deploy/.

    python -m tests.sandbox UNIT STATE COMMAND…

It needs root, and takes from the unit what it can do alone: an ordinary user without capabilities, a file system that
is read-only but for STATE and a private /tmp, no new privileges, no memory that is written and executed, the system
calls and address families that the unit lets through, its umask and limits. What is left out: other namespaces, /proc
and /dev. The system calls of a set are those that `systemd-analyze syscall-filter` names.
"""

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

_NOBODY = 65534
_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY = -100, 0x8000, 1
_PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 38, 65
_ALLOW, _REFUSE, _EQUAL = 0x7FFF0000, 0x00050001, 4
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}

_libc = ctypes.CDLL(None, use_errno=True)


def options(unit: Path) -> dict[str, list[str]]:
    """What a unit says in [Service]: by option its values, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def main() -> None:
    unit, state, command = options(Path(sys.argv[1])), Path(sys.argv[2]).resolve(), sys.argv[3:]
    calls = allowed_calls(unit["SystemCallFilter"])
    _shut_files(state)
    os.umask(int(unit["UMask"][0], 8))
    for name, limit in (("LimitNOFILE", resource.RLIMIT_NOFILE), ("LimitCORE", resource.RLIMIT_CORE)):
        hard = resource.getrlimit(limit)[1]
        most = int(unit[name][0]) if hard == resource.RLIM_INFINITY else min(hard, int(unit[name][0]))
        resource.setrlimit(limit, (most, most))
    _become_nobody(state)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    if unit.get("MemoryDenyWriteExecute") == ["yes"]:
        _check(_libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0), "memory")
    _filter_calls(calls, unit["RestrictAddressFamilies"][0].split())
    os.execvp(command[0], command)


def allowed_calls(filters: list[str]) -> set[str]:
    """The system calls that are let through: sets are added, those with ~ taken away."""
    found: set[str] = set()
    for line in filters:
        calls = set().union(*(_calls(word) for word in line.removeprefix("~").split()))
        found = found - calls if line.startswith("~") else found | calls
    return found


def _calls(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    words = [line.strip() for line in shown.stdout.splitlines()[1:]]
    return set().union(*(_calls(word) for word in words if word and not word.startswith("#")))


def _shut_files(state: Path) -> None:
    """Everything read-only, but for the state, which keeps its path, and an empty /tmp."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    python = Path(sys.base_prefix).resolve()
    kept = [state, Path(__file__).resolve().parent.parent, python]
    held = [os.open(path, os.O_PATH) for path in kept]
    for top in {"/tmp", *(f"/{path.parts[1]}" for path in (kept[1], python) if not _is_open_to_all(path))}:
        _mount("none", top, "tmpfs", 0, "mode=1777" if top == "/tmp" else "mode=755")
    for path, descriptor in zip(kept, held, strict=True):
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", str(path), "", _MS_BIND | _MS_REC)
    _set_attributes("/", _AT_RECURSIVE, read_only=True)
    for path in ("/tmp", str(state)):
        _set_attributes(path, 0, read_only=False)


def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (path, *path.parents))


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mount on {target}")


def _set_attributes(path: str, flags: int, read_only: bool) -> None:
    change = (ctypes.c_uint64 * 4)(*((_ATTR_RDONLY, 0) if read_only else (0, _ATTR_RDONLY)), 0, 0)
    _check(_libc.mount_setattr(_AT_FDCWD, path.encode(), flags, change, ctypes.sizeof(change)), path)


def _become_nobody(state: Path) -> None:
    for path in (state, *state.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY, follow_symlinks=False)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def _filter_calls(calls: set[str], families: list[str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(_REFUSE))
    for name in sorted(calls - {"socket"}):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other processors
            _check(library.seccomp_rule_add_array(context, _ALLOW, number, 0, None), name)
    number = library.seccomp_syscall_resolve_name(b"socket")
    for family in families:
        compare = _Compare(0, _EQUAL, _FAMILIES[family], 0)
        _check(library.seccomp_rule_add_array(context, _ALLOW, number, 1, ctypes.byref(compare)), family)
    _check(library.seccomp_load(context), "seccomp")


def _check(status: int, what: str) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(abs(status) if status < -1 else ctypes.get_errno())}")


if __name__ == "__main__":
    main()
