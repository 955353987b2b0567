//! Capabilities by name, and the set that a container has when nothing is said: Docker's.

use rustix::thread::CapabilitySet;

use crate::error::Refusal;
use crate::spec::Security;

const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// What a program may have, out of what the machine has to give: `available` is the shim's own permitted set.
pub(crate) fn of(security: &Security, available: CapabilitySet) -> Result<CapabilitySet, Refusal> {
    if security.privileged {
        return Ok(available);
    }
    let dropped = parse(&security.cap_drop)?;
    let added = parse(&security.cap_add)?;
    let wanted = DEFAULT.difference(dropped).union(added);
    Ok(wanted.intersection(available))
}

fn parse(names: &[String]) -> Result<CapabilitySet, Refusal> {
    let mut set = CapabilitySet::empty();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let flags = match short {
            "ALL" => Some(CapabilitySet::all()),
            _ => CapabilitySet::from_name(short),
        };
        set |= flags.ok_or_else(|| Refusal::InvalidSpec(format!("no capability {name:?}")))?;
    }
    Ok(set)
}

/// The names that an OCI specification has for a set.
pub(crate) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(security: Security, has: CapabilitySet, has_not: CapabilitySet) {
        let set = of(&security, CapabilitySet::all()).unwrap();
        assert!(set.contains(has), "{:?} missing", names(has.difference(set)));
        assert!(!set.intersects(has_not), "{:?} too much", names(set.intersection(has_not)));
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn default_is_dockers() {
        let none = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::SYS_PTRACE;
        check(Security::default(), DEFAULT, none);
        assert_eq!(names(DEFAULT).len(), 14);
    }

    #[test]
    fn all_can_be_dropped_and_single_ones_added() {
        let security = Security {
            cap_drop: words(&["ALL"]),
            cap_add: words(&["net_admin", "CAP_CHOWN"]),
            ..Security::default()
        };
        let set = of(&security, CapabilitySet::all()).unwrap();
        assert_eq!(set, CapabilitySet::NET_ADMIN | CapabilitySet::CHOWN);
    }

    #[test]
    fn what_the_machine_lacks_is_not_given() {
        let available = CapabilitySet::all().difference(CapabilitySet::SYS_RESOURCE);
        let security = Security { privileged: true, ..Security::default() };
        assert_eq!(of(&security, available).unwrap(), available);
    }

    #[test]
    fn unknown_names_are_refused() {
        let security = Security { cap_add: words(&["FLY"]), ..Security::default() };
        assert!(of(&security, CapabilitySet::all()).is_err());
    }
}
