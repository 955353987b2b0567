//! System calls that no safe wrapper offers.
#![expect(unsafe_code, reason = "raw system calls are all that this module is")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use seccompiler::sock_filter;
use tokio::io::unix::AsyncFd;

/// One instruction of an eBPF program, as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u8,
    /// Destination in the low four bits, source in the high four.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes the mount that `tree` stands for refuse writes, devices and set-uid bits; it is attached nowhere.
pub(crate) fn make_read_only(tree: impl AsFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string, the structure is as long as said and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Installs a seccomp filter on this thread. Without `no_new_privs` it takes CAP_SYS_ADMIN.
pub(crate) fn install_filter(program: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "filter too long"))?;
    let program = libc::sock_fprog {
        len: length,
        // The kernel only reads it; `seccompiler::sock_filter` has the kernel's layout.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that live until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    check(result).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgramAttach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Loads a device program and puts it on a v2 cgroup, beside those that are there.
pub(crate) fn attach_device_program(
    group: impl AsFd,
    program: &[BpfInstruction],
) -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let load = ProgramLoad {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..ProgramLoad::default()
    };
    // SAFETY: the structure has the size said and points to memory that outlives the call.
    let loaded = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<ProgramLoad>())
    })?;
    // SAFETY: a successful load gives a new descriptor that nobody else owns.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let attach = ProgramAttach {
        target: group.as_fd().as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the structure has the size said; both descriptors are open.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<ProgramAttach>())
    };
    check(result).map(drop)
}

/// Forks; the child runs `child` and ends with its result. The caller has one thread.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    clone(0, child)
}

/// Forks into a new pid namespace and runs `child` there as its first process. The caller has one thread.
pub(crate) fn fork_pid_namespace(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    clone(libc::CLONE_NEWPID as u64, child)
}

fn clone(flags: u64, child: impl FnOnce() -> i32) -> io::Result<Pid> {
    #[repr(C, align(8))]
    #[derive(Default)]
    struct CloneArguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        rest: [u64; 3],
    }
    let arguments =
        CloneArguments { flags, exit_signal: libc::SIGCHLD as u64, ..CloneArguments::default() };
    // SAFETY: without CLONE_VM and with no stack given this is fork, and the caller has no other thread whose locks
    // could be held in the child.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>())
    })?;
    match Pid::from_raw(pid as i32) {
        Some(pid) => Ok(pid),
        None => exit_now(child()),
    }
}

/// Sends a signal by its number; real-time ones have no other name. One that has ended already is no error.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: it touches no memory.
    let result = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    match check(result.into()) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// Ends this process without running exit handlers: they are the parent's.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Leaves the namespaces named for new ones. The caller has one thread.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the flags have no FILES, by which descriptors could be closed under another thread's feet.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Waits until a child's end is signalled. SIGCHLD is blocked.
pub(crate) fn wait_for_child() {
    // SAFETY: an all-zero signal set is a valid one to initialise; both pointers live until the calls return.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        let mut signal = 0;
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigwait(&raw const set, &raw mut signal);
    }
}

/// Closes every descriptor from `first` on. Nothing may use one afterwards.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: only called where nothing that owns a descriptor is used or dropped any more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Lends a descriptor that was opened before a fork, by its number.
pub(crate) fn lend(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the numbers given here were inherited by a fork from their owner and nobody closes them in the child.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Every signal does again what it does by default, and none is blocked: what a new program expects.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: the default action runs no code of ours; KILL and STOP refuse, harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero signal set is a valid empty one, and the old mask is not asked for.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Sets the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // SAFETY: `ifreq` is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(result.into()).map(drop)
}

/// Gives a descriptor to tokio, to be read or written without blocking.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: an `OwnedFd` always gives the same descriptor, and keeps it open for as long as it is watched.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Makes the caller's terminal at `fd` the controlling one of its session.
pub(crate) fn take_terminal(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a plain number.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(result.into()).map(drop)
}
