"""The default profile: what every container may ask of the kernel.

Namespaces hide, cgroups limit, capabilities are asked for; but behind each
of some 380 system calls there is kernel code that a stranger's program can
reach, and most of it, most programs never need. The default profile closes
the doors that lead to the whole machine or to code with a history of holes,
and stays out of the way of everything else.

All calls stand in one of three tables. :data:`ALLOWED`: anybody may.
:data:`BY_CAPABILITY`: who was given a capability may make the calls that it
is for. :data:`DENIED`: nobody may, and why. A test holds the kernel's list
against the three, so that no call is forgotten.

The trap: ``clone`` is fork *and* the maker of namespaces, told apart by its
flags; ``clone3`` has its flags in memory, where a filter cannot see them. It
must seem not to exist (ENOSYS), and the C library falls back to ``clone``.

**Interface:** :func:`default_profile`, :func:`default_filter`.

**See:** syscalls(2); Docker's documentation, "Significant syscalls blocked by
the default profile"; ``docs/security.md`` for where we differ.
"""

import errno
from functools import cache

from minidock.seccomp.profile import Condition, Family, Profile, Rule, resolve
from minidock.spec.seccomp import Argument, Seccomp

# %% What anybody may do: files
ALLOWED = {
    "open and close files; permissions are checked by the file system": """
        open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock umask
        memfd_create memfd_secret access faccessat faccessat2""",
    "read and write": """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek
        sendfile sendfile64 splice tee vmsplice copy_file_range readahead fadvise64 fadvise64_64
        arm_fadvise64_64 arm_sync_file_range truncate truncate64 ftruncate ftruncate64 fallocate sync
        syncfs fsync fdatasync sync_file_range cachestat ioctl""",
    "look at files": """
        stat stat64 fstat fstat64 lstat lstat64 newfstatat fstatat64 statx statfs statfs64 fstatfs
        fstatfs64 getdents getdents64 readlink readlinkat getcwd file_getattr""",
    "change directories and names": """
        chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat
        unlink unlinkat""",
    "change attributes; mknod needs CAP_MKNOD, and a device also passes the cgroup's filter": """
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32
        utime utimes utimensat utimensat_time64 futimesat mknod mknodat file_setattr""",
    "extended attributes": """
        getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr
        removexattr lremovexattr fremovexattr getxattrat setxattrat listxattrat removexattrat""",
    "wait for events": """
        select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create
        epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
        eventfd eventfd2 signalfd signalfd4 inotify_init inotify_init1 inotify_add_watch
        inotify_rm_watch fanotify_mark""",
    "asynchronous input and output, the old way": """
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents
        io_pgetevents_time64""",
}

# %% What anybody may do: processes and memory
ALLOWED |= {
    "live and die": """
        execve execveat exit exit_group fork vfork wait4 waitid waitpid getpid getppid gettid
        set_tid_address getpgid getpgrp setpgid getsid setsid pidfd_open pidfd_send_signal
        restart_syscall uname sysinfo times getrusage getcpu rseq membarrier""",
    "identity; changing it needs CAP_SETUID and CAP_SETGID": """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid
        getresuid32 getresgid getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32
        setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32
        setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset""",
    "limit oneself further": """
        prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
        getrlimit ugetrlimit setrlimit prlimit64 getpriority setpriority ioprio_get ioprio_set
        lsm_get_self_attr lsm_list_modules""",
    "memory": """
        brk mmap mmap2 munmap mremap mprotect msync madvise mincore mlock mlock2 mlockall munlock
        munlockall remap_file_pages process_mrelease mseal map_shadow_stack pkey_alloc pkey_free
        pkey_mprotect""",
    "threads": """
        futex futex_time64 futex_waitv futex_wake futex_wait futex_requeue set_robust_list
        get_robust_list set_thread_area get_thread_area sched_yield sched_getaffinity
        sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
        sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
        sched_rr_get_interval sched_rr_get_interval_time64""",
    "signals": """
        kill tkill tgkill rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
        rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack
        sigprocmask sigreturn pause alarm""",
    "time; setting the clock by adjtimex needs CAP_SYS_TIME": """
        time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64
        clock_nanosleep clock_nanosleep_time64 nanosleep getitimer setitimer adjtimex
        clock_adjtime clock_adjtime64 timer_create timer_delete timer_getoverrun timer_gettime
        timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64 getrandom""",
    "see one's own mounts": "statmount listmount",
}

# %% What anybody may do: talk to others
ALLOWED |= {
    "sockets; socket itself has a rule of its own": """
        socketpair bind connect listen accept accept4 getsockname getpeername getsockopt
        setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
        shutdown socketcall""",
    "pipes": "pipe pipe2",
    "System V and POSIX messages, semaphores and memory; they have a namespace": """
        ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat
        shmctl shmdt shmget mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend
        mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64""",
}

# %% Who was given a capability may make the calls that it is for
BY_CAPABILITY = {
    "CAP_SYS_ADMIN": """
        mount umount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig
        fsmount fspick setns unshare sethostname setdomainname quotactl quotactl_fd
        fanotify_init bpf perf_event_open syslog lookup_dcookie name_to_handle_at clone clone3""",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

# %% What nobody may do, and why
DENIED = {
    "load another kernel, or switch devices for the whole machine": """
        kexec_load kexec_file_load swapon swapoff""",
    "change the root of the mount namespace: nobody in here has a use for it": "pivot_root",
    "the kernel's key rings have no namespace: keys of one container are visible in another": """
        add_key request_key keyctl""",
    "handle page faults in user space: stops the kernel at a chosen point, for exploits": """
        userfaultfd""",
    "a second way to make most calls, past this filter; its own history of holes is long": """
        io_uring_setup io_uring_enter io_uring_register""",
    "move other processes' memory between nodes": "migrate_pages move_pages",
    "write labels of security modules": "lsm_set_self_attr",
    "obsolete, or not implemented for decades: code nobody looks at": """
        _sysctl sysfs ustat uselib nfsservctl create_module query_module get_kernel_syms bdflush
        vm86 vm86old usr26 usr32 afs_syscall getpmsg putpmsg tuxcall security vserver""",
    "obsolete forms on 32-bit x86, which its C library no longer uses": """
        break ftime gtty idle lock mpx nice oldfstat oldlstat oldolduname oldstat olduname prof
        profil readdir sgetmask sigaction signal sigpending sigsuspend ssetmask stty ulimit
        pciconfig_iobase pciconfig_read pciconfig_write""",
}


# %% Rules that look at arguments
NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
AF_VSOCK = 40  # to the hypervisor, past every network namespace

LINUX, LINUX32, UNAME26, WHICH = 0x0, 0x8, 0x20000, 0xFFFFFFFF  # of personality(2)


def _argument_rules() -> list[Rule]:
    """``clone`` without new namespaces, harmless personalities, any socket but one kind."""
    allow, admin = "SCMP_ACT_ALLOW", Condition(caps=("CAP_SYS_ADMIN",))
    plain = Argument(0, NAMESPACES, "SCMP_CMP_MASKED_EQ", 0)
    personalities = [
        Rule(allow, ("personality",), args=(Argument(0, value, "SCMP_CMP_EQ"),))
        for value in (LINUX, LINUX32, UNAME26, LINUX32 | UNAME26, WHICH)
    ]
    return [
        Rule(allow, ("clone",), args=(plain,), excludes=admin),
        Rule("SCMP_ACT_ERRNO", ("clone3",), errno_ret=errno.ENOSYS, excludes=admin),
        Rule(allow, ("socket",), args=(Argument(0, AF_VSOCK, "SCMP_CMP_NE"),)),
        *personalities,
    ]


# %% The profile
@cache
def default_profile() -> Profile:
    """The three tables as one profile."""
    allow = "SCMP_ACT_ALLOW"
    everybody = tuple(name for group in ALLOWED.values() for name in group.split())
    rules = [
        Rule(allow, everybody),
        # Before Linux 4.8 a tracer could change the call after the filter had seen it.
        Rule(allow, ("ptrace",), includes=Condition(min_kernel="4.8")),
        Rule(allow, ("arch_prctl", "modify_ldt"), includes=Condition(arches=("amd64",))),
        Rule(
            allow,
            ("breakpoint", "cacheflush", "set_tls", "get_tls"),
            includes=Condition(arches=("arm64",)),
        ),
        Rule(allow, ("riscv_flush_icache",), includes=Condition(arches=("riscv64",))),
        *_argument_rules(),
    ]
    for capability, text in BY_CAPABILITY.items():
        names = tuple(text.split())
        rules.append(Rule(allow, names, includes=Condition(caps=(capability,))))
    return Profile("SCMP_ACT_ERRNO", errno.EPERM, arch_map=FAMILIES, syscalls=tuple(rules))


FAMILIES = (
    Family("SCMP_ARCH_X86_64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    Family("SCMP_ARCH_AARCH64", ("SCMP_ARCH_ARM",)),
    Family("SCMP_ARCH_RISCV64"),
)


@cache
def default_filter(capabilities: frozenset[str]) -> Seccomp:
    """The default profile for a container with the bounding set ``capabilities``."""
    return resolve(default_profile(), capabilities)
