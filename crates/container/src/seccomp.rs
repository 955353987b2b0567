//! The default seccomp profile as BPF programs, depending on architecture and capabilities.

mod table;

use std::collections::BTreeMap;

use rustix::thread::CapabilitySet;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::error::Refusal;

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u64 = 0x7E02_0000;
const AF_VSOCK: u64 = 40;
/// Linux, two with no address randomisation and 32 bit addresses, their sum, and "tell me".
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// The filters, in the order in which they are to be installed. Of two refusals the kernel takes the later filter's.
pub(crate) fn default_profile(capabilities: CapabilitySet) -> Result<Vec<BpfProgram>, Refusal> {
    Ok(vec![allow_list(capabilities)?, not_implemented(capabilities)])
}

/// What is not in the list is not permitted.
fn allow_list(capabilities: CapabilitySet) -> Result<BpfProgram, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::System {
        action: "build the seccomp filter".into(),
        reason: error.to_string(),
    };
    let refused = |error: seccompiler::BackendError| failed(&error);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    rules.insert(libc::SYS_socket, vec![argument(SeccompCmpOp::Ne, AF_VSOCK).map_err(refused)?]);
    let personalities = PERSONALITIES.map(|value| argument(SeccompCmpOp::Eq, value));
    rules.insert(
        libc::SYS_personality,
        personalities.into_iter().collect::<Result<_, _>>().map_err(refused)?,
    );
    let no_namespace = argument(SeccompCmpOp::MaskedEq(NAMESPACES), 0).map_err(refused)?;
    rules.insert(libc::SYS_clone, vec![no_namespace]);
    for list in [table::COMMON, table::OWN, table::NEW] {
        rules.extend(list.iter().map(|number| (*number, Vec::new())));
    }
    for (capability, numbers) in table::WITH_CAPABILITY {
        if capabilities.contains(*capability) {
            rules.extend(numbers.iter().map(|number| (*number, Vec::new())));
        }
    }
    // Whether it works at all is for the other filter to say.
    rules.insert(libc::SYS_clone3, Vec::new());
    let architecture: TargetArch = std::env::consts::ARCH.try_into().map_err(refused)?;
    let forbidden = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, forbidden, SeccompAction::Allow, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(refused)
}

fn argument(
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let length = SeccompCmpArgLen::Dword;
    SeccompRule::new(vec![SeccompCondition::new(0, length, comparison, value)?])
}

/// System calls from the future answer "not implemented", and so does clone3, whose flags a filter cannot see, so that
/// C libraries fall back to what is known. With CAP_SYS_ADMIN clone3 is as good as clone.
fn not_implemented(capabilities: CapabilitySet) -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let nosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = match capabilities.contains(CapabilitySet::SYS_ADMIN) {
        true => u32::MAX,
        false => libc::SYS_clone3 as u32,
    };
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_GREATER, 2, 0, table::HIGHEST_KNOWN),
        step(JUMP_IF_EQUAL, 1, 0, clone3),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, nosys),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(capabilities: CapabilitySet, number: libc::c_long) -> bool {
        table::COMMON.contains(&number)
            || table::OWN.contains(&number)
            || table::NEW.contains(&number)
            || table::WITH_CAPABILITY
                .iter()
                .any(|(with, numbers)| capabilities.contains(*with) && numbers.contains(&number))
    }

    #[test]
    fn dangerous_calls_take_a_capability() {
        use libc::{SYS_add_key, SYS_kexec_load, SYS_keyctl, SYS_mount, SYS_reboot, SYS_setns};
        let none = CapabilitySet::empty();
        for number in [SYS_mount, SYS_setns, SYS_keyctl, SYS_add_key, SYS_reboot, SYS_kexec_load] {
            assert!(!listed(none, number), "{number}");
        }
        assert!(!listed(none, libc::SYS_io_uring_setup), "io_uring goes round the filter");
        assert!(listed(CapabilitySet::SYS_ADMIN, SYS_mount));
        assert!(!listed(CapabilitySet::all(), SYS_keyctl));
    }

    #[test]
    fn no_call_is_above_the_highest_known() {
        let all = [table::COMMON, table::OWN, table::NEW];
        let with = table::WITH_CAPABILITY.iter().map(|(_, numbers)| *numbers);
        let highest = all.into_iter().chain(with).flatten().max().unwrap();
        assert!(u32::try_from(*highest).unwrap() <= table::HIGHEST_KNOWN);
    }

    #[test]
    fn programs_fit_the_kernels_limit() {
        for set in [CapabilitySet::empty(), CapabilitySet::all()] {
            for program in default_profile(set).unwrap() {
                assert!((1..=4096).contains(&program.len()), "{}", program.len());
            }
        }
    }
}
