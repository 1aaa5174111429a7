"""Takes from a process what decoding pictures does not need, before it sees the first of them.

After `enter` a decoder that a picture has taken over can neither open a file nor a socket, start a program, or send a
signal to another process. On Linux a seccomp filter refuses these system calls, seccomp(2).
"""

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterator, Mapping
from errno import ENOSYS, EPERM

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9
_CLONE_THREAD = 0x10000

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""Instructions of a filter, linux/bpf_common.h: 32-bit words and constants."""
_ALLOW, _REFUSE, _END_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
"""Results of a filter, linux/seccomp.h. The error number is added to a refusal."""
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
"""Offsets in `struct seccomp_data`; of an argument the lower half, on little-endian machines."""
_FIRST_X32_CALL = 0x40000000
"""Calls of x86-64 from here on are those of its 32-bit variant, which have other numbers."""


_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By machine: the place of its number in each pair of `_REFUSED`, and its AUDIT_ARCH_… of linux/audit.h."""

# fmt: off
_REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    # Files: nothing is opened, made, renamed, removed or changed.
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "open_by_handle_at": (304, 265), "creat": (85, None),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "truncate": (76, 45), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "unlink": (87, None), "unlinkat": (263, 35), "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88),
    # The network and other processes' sockets.
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "recvfrom": (45, 207), "recvmsg": (47, 212), "recvmmsg": (299, 243),
    # Programs and processes.
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    # Other processes: looking into them, signals to them, what is shared with them.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190), "msgget": (68, 186),
    "mq_open": (240, 180), "setpgid": (109, 154),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    # Mounts, namespaces, and parts of the kernel that have had many holes.
    "mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "fanotify_init": (300, 262),
}
"""System calls, with their numbers on each machine, asm/unistd.h; None if it has none of that name."""

_REFUSED_OPERATIONS = {
    # To have signals sent to another process: F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP.
    # To type on a terminal: TIOCSTI.
    "fcntl": ((72, 25), (8, 10, 15)), "ioctl": ((16, 29), (0x8901, 0x8902, 0x5412)),
}
"""Calls of which only some operations, the second argument, are refused."""
_ONLY_TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131), "prlimit64": (302, 261)}
"""Calls whose first argument is a process, which may be the caller: abort(3) sends a signal."""
_CLONE, _CLONE3 = (56, 220), (435, 435)
"""Calls that start a thread, which is allowed, or a process."""
# fmt: on


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def enter() -> str:
    """Give up everything that decoding does not need; return why system calls are not filtered, or an empty text.

    To be called once all modules are imported, and while there is one thread.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Nor may it fill the memory that it shares with the service.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return f"system calls are filtered on Linux alone, not on {platform.system()} {platform.machine()}"
    filters = b"".join(_instructions(*_MACHINES[platform.machine()], os.getpid()))
    program = _Program(len(filters) // 8, filters)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, *arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(option, *arguments):
            return f"prctl({option}) failed: {os.strerror(ctypes.get_errno())}"
    return ""


def end_with_parent() -> None:
    """Be killed when the thread that started this process ends; do nothing where that is not known.

    A process that reads from its parent notices the end there, unless it hangs in a decoder.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def _instructions(column: int, architecture: int, own_pid: int) -> Iterator[bytes]:
    refuse = _instruction(_RETURN, _REFUSE | EPERM)
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_IF_EQUAL, architecture, 1, 0)
    yield _instruction(_RETURN, _END_PROCESS)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_IF_AT_LEAST, _FIRST_X32_CALL, 0, 1)
    yield refuse
    for number in filter(None, (numbers[column] for numbers in _REFUSED.values())):
        yield _instruction(_IF_EQUAL, number, 0, 1)
        yield refuse
    # The C library takes this for an old kernel and falls back to clone, whose flags can be looked at.
    yield _instruction(_IF_EQUAL, _CLONE3[column], 0, 1)
    yield _instruction(_RETURN, _REFUSE | ENOSYS)
    yield _instruction(_IF_EQUAL, _CLONE[column], 0, 4)
    yield _instruction(_LOAD, _FIRST_ARGUMENT)
    yield _instruction(_IF_ANY_BIT, _CLONE_THREAD, 1, 0)
    yield refuse
    yield _instruction(_RETURN, _ALLOW)
    for numbers, operations in _REFUSED_OPERATIONS.values():
        yield _instruction(_IF_EQUAL, numbers[column], 0, 2 * len(operations) + 2)
        yield _instruction(_LOAD, _SECOND_ARGUMENT)
        for operation in operations:
            yield _instruction(_IF_EQUAL, operation, 0, 1)
            yield refuse
        yield _instruction(_RETURN, _ALLOW)
    for numbers in _ONLY_TO_ITSELF.values():
        yield _instruction(_IF_EQUAL, numbers[column], 0, 5)
        yield _instruction(_LOAD, _FIRST_ARGUMENT)
        yield _instruction(_IF_EQUAL, 0, 2, 0)
        yield _instruction(_IF_EQUAL, own_pid, 1, 0)
        yield refuse
        yield _instruction(_RETURN, _ALLOW)
    yield _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return a `struct sock_filter`; jumps are numbers of instructions to pass over."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
