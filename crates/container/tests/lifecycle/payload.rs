//! What this binary does as the program in a container: small things, by its first argument.
#![expect(unsafe_code, reason = "the system calls that must be refused have no safe wrapper")]

use std::io::{BufRead as _, Read as _, Write as _};
use std::time::Duration;

pub(crate) fn run_if_payload() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.first().is_none_or(|name| name != super::fixture::PROGRAM) {
        return;
    }
    let words: Vec<&str> = arguments[1..].iter().map(String::as_str).collect();
    std::process::exit(run(&words));
}

fn run(words: &[&str]) -> i32 {
    match words {
        ["exit", code] => return code.parse().unwrap(),
        ["sleep"] => loop {
            std::thread::park_timeout(Duration::from_secs(3600));
        },
        ["say", text] => println!("{text}"),
        ["complain", text] => eprintln!("{text}"),
        ["flood", lines] => {
            let line = "x".repeat(99);
            let mut out = std::io::stdout().lock();
            for _ in 0..lines.parse::<u32>().unwrap() {
                writeln!(out, "{line}").unwrap();
            }
        }
        ["cat", path] => match std::fs::read_to_string(path) {
            Ok(text) => print!("{text}"),
            Err(error) => println!("{error}"),
        },
        ["list", path] => list(path),
        ["write", path, text] => match std::fs::write(path, text) {
            Ok(()) => println!("written"),
            Err(error) => println!("{error}"),
        },
        ["open", path] => match std::fs::File::open(path) {
            Ok(_) => println!("opened"),
            Err(error) => println!("{error}"),
        },
        ["echo"] => {
            for line in std::io::stdin().lines() {
                println!("got {}", line.unwrap());
            }
            println!("end");
        }
        ["eat", bytes] => eat(bytes.parse().unwrap()),
        ["spawn"] => spawn_many(),
        ["burn"] => burn(),
        ["self"] => print!("{}", describe()),
        ["refused"] => print!("{}", refusals()),
        ["node", major, minor] => node(major.parse().unwrap(), minor.parse().unwrap()),
        ["tty"] => tty(),
        ["env", name] => println!("{}", std::env::var(name).unwrap_or_default()),
        ["link", name] => println!("{}", std::fs::read_link(name).unwrap().display()),
        other => panic!("unknown words {other:?}"),
    }
    0
}

fn list(path: &str) {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    println!("{}", names.join(" "));
}

fn eat(bytes: usize) {
    let mut all = Vec::new();
    for _ in 0..bytes / (1 << 20) {
        all.push(vec![1_u8; 1 << 20]);
    }
    println!("ate {}", all.len());
}

fn spawn_many() {
    let mut children = Vec::new();
    for number in 0..200 {
        match std::process::Command::new("/proc/self/exe")
            .arg0(super::fixture::PROGRAM)
            .arg("sleep")
            .spawn()
        {
            Ok(child) => children.push(child),
            Err(error) => {
                println!("after {number}: {error}");
                break;
            }
        }
    }
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

use std::os::unix::process::CommandExt as _;

/// Uses 60 ms of CPU time, however long that takes.
fn burn() {
    let used = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    while used().tv_sec == 0 && used().tv_nsec < 60_000_000 {
        std::hint::spin_loop();
    }
    println!("burnt");
    std::io::stdout().flush().unwrap();
    run(&["sleep"]);
}

/// Who and where we are: one `name=value` a line.
fn describe() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let wanted =
        ["Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
    let mut text = String::new();
    for line in status.lines() {
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| wanted.contains(name))
        {
            let words: Vec<_> = value.split_whitespace().collect();
            text += &format!("{name}={}\n", words.join(","));
        }
    }
    for namespace in ["pid", "net", "ipc", "uts", "mnt"] {
        let link = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        text += &format!("{namespace}={}\n", link.display());
    }
    text +=
        &format!("host={}\n", std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    text += &format!("me={}\n", std::process::id());
    text += &format!("cwd={}\n", std::env::current_dir().unwrap().display());
    let mut fds: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    fds.sort();
    // The last one is the directory that is being read.
    text += &format!("fds={}\n", fds.len() - 1);
    text
}

/// What comes of system calls that a container should not make.
fn refusals() -> String {
    let mut text = String::new();
    let mut note = |name: &str, result: libc::c_long| {
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        text += &format!("{name}={}\n", if result < 0 { error } else { 0 });
    };
    // SAFETY: null pointers and impossible numbers: the calls fail one way or another, and the point is which.
    unsafe {
        note("mount", libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0));
        note("keyctl", libc::syscall(libc::SYS_keyctl, 0, -3, 0, 0, 0));
        note("unshare", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER));
        note("clone3", libc::syscall(libc::SYS_clone3, 0, 0));
        note("future", libc::syscall(9999));
        note("io_uring", libc::syscall(libc::SYS_io_uring_setup, 0, 0));
        note("vsock", libc::syscall(libc::SYS_socket, 40, 1, 0));
        note("inet", libc::syscall(libc::SYS_socket, 2, 1, 0));
        note("personality", libc::syscall(libc::SYS_personality, 0xffff_ffff_u32));
        note("odd", libc::syscall(libc::SYS_personality, 0x0040_0000));
    }
    text
}

fn node(major: u32, minor: u32) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let made = mknodat(CWD, "/node", FileType::CharacterDevice, Mode::RUSR, makedev(major, minor));
    let opened = made.and_then(|()| {
        rustix::fs::open("/node", rustix::fs::OFlags::RDONLY, Mode::empty()).map(drop)
    });
    println!("made={} opened={opened:?}", made.is_ok());
}

fn tty() {
    let size = |prefix: &str| {
        let size = rustix::termios::tcgetwinsize(std::io::stdin()).unwrap();
        println!("{prefix}{}x{}", size.ws_row, size.ws_col);
    };
    let name = rustix::termios::ttyname(std::io::stdin(), Vec::new()).unwrap();
    println!("name={} term={}", name.to_string_lossy(), std::env::var("TERM").unwrap());
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    size("size=");
    let mut rest = Vec::new();
    std::io::stdin().lock().read_to_end(&mut rest).unwrap();
}
