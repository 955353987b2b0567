//! Which devices a container may open: Docker's default list, as v1 rules and as a v2 program.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::kernel::{self, BpfInstruction};

const CHAR: i32 = 2;

/// One character device, or a whole major number, that may be read, written and made.
struct Allowed {
    major: i32,
    minor: Option<i32>,
}

const ALLOWED: [Allowed; 9] = [
    Allowed { major: 1, minor: Some(3) }, // null
    Allowed { major: 1, minor: Some(5) }, // zero
    Allowed { major: 1, minor: Some(7) }, // full
    Allowed { major: 1, minor: Some(8) }, // random
    Allowed { major: 1, minor: Some(9) }, // urandom
    Allowed { major: 5, minor: Some(0) }, // tty
    Allowed { major: 5, minor: Some(1) }, // console
    Allowed { major: 5, minor: Some(2) }, // ptmx
    Allowed { major: 136, minor: None },  // terminals
];

/// Lines for `devices.allow`. Any node may be made, but only these opened.
pub(super) fn v1_rules() -> Vec<String> {
    let mut rules = vec!["c *:* m".to_owned(), "b *:* m".to_owned()];
    rules.extend(ALLOWED.iter().map(|device| match device.minor {
        Some(minor) => format!("c {}:{minor} rwm", device.major),
        None => format!("c {}:* rwm", device.major),
    }));
    rules
}

/// Puts the same rules on a v2 group.
pub(super) fn attach(group: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(group, flags, Mode::empty())?;
    kernel::attach_device_program(&dir, &program())
}

/// r1 points to `bpf_cgroup_dev_ctx { access_type: u32, major: u32, minor: u32 }`, where `access_type` is the access
/// wanted (1 make, 2 read, 4 write) shifted left by 16, and the type (1 block, 2 character).
fn program() -> Vec<BpfInstruction> {
    let mut code = vec![
        load(2, 0),
        load(4, 4),
        load(5, 8),
        // r3 = access, r2 = type
        instruction(0xbf, 3, 2, 0, 0),
        instruction(0x77, 3, 0, 0, 16),
        instruction(0x57, 2, 0, 0, 0xffff),
        // Making a node only is always allowed: if r3 != 1, skip the verdict.
        instruction(0x55, 3, 0, 2, 1),
    ];
    code.extend(verdict(1));
    // All that follow are character devices: if r2 == CHAR, skip the refusal.
    code.push(instruction(0x15, 2, 0, 2, CHAR));
    code.extend(verdict(0));
    for device in &ALLOWED {
        match device.minor {
            Some(minor) => {
                code.push(instruction(0x55, 4, 0, 3, device.major));
                code.push(instruction(0x55, 5, 0, 2, minor));
            }
            None => code.push(instruction(0x55, 4, 0, 2, device.major)),
        }
        code.extend(verdict(1));
    }
    code.extend(verdict(0));
    code
}

/// `return value`.
fn verdict(value: i32) -> [BpfInstruction; 2] {
    [instruction(0xb7, 0, 0, 0, value), instruction(0x95, 0, 0, 0, 0)]
}

/// `r<to> = *(u32 *)(r1 + offset)`.
fn load(to: u8, offset: i16) -> BpfInstruction {
    instruction(0x61, to, 1, offset, 0)
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> BpfInstruction {
    BpfInstruction { code, registers: from << 4 | to, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own verifier judges the program. The unified hierarchy may be beside v1 ones.
    #[test]
    fn the_program_is_taken_by_the_kernel() {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let unified = mounts.into_iter().find(|mount| mount.join("cgroup.controllers").exists());
        let (Some(mount), true) = (unified, rustix::process::geteuid().is_root()) else {
            println!("skipped: needs root and a cgroup2 mount");
            return;
        };
        let group = mount.join(format!("pontoon-device-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let attached = attach(&group);
        std::fs::remove_dir(&group).unwrap();
        attached.unwrap();
    }

    #[test]
    fn rules_are_dockers() {
        let rules = v1_rules();
        assert_eq!(rules[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(rules[10], "c 136:* rwm");
    }
}
