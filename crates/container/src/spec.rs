//! What the caller wants: sandboxes, containers, commands in containers.

mod container;
mod sandbox;

pub use container::{
    ContainerSpec, ExecSpec, LogConfig, Mount, MountKind, PidNamespace, Rootfs, SeccompProfile,
    Security, User,
};
pub use sandbox::{ResourceLimits, SandboxSpec};

use crate::error::Error;

/// Ids become file and cgroup names.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let fits = (1..=128).contains(&id.len())
        && !id.starts_with('.')
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fits { Ok(()) } else { Err(Error::InvalidId(id.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn ids_are_file_names() {
        for good in ["a", "web-0", "a.b_c", &"x".repeat(128)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
