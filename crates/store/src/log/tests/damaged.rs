//! Logs with any bytes changed: what is read is what was written, or the log is refused.

use std::sync::OnceLock;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{all, append, copy, files, open, record, three_groups};
use crate::error::OpenError;
use crate::log::record::{HEADER, Header, Kind};
use crate::log::{Log, Record};

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// 20,000 rows of bytes by chance: none is taken for the header of a record.
    #[test]
    fn bytes_by_chance_are_no_header(
        bytes in prop::collection::vec(any::<u8>(), 0..2 * HEADER),
        salt in any::<u64>(),
    ) {
        prop_assert_eq!(Header::decode(&bytes, salt), None);
    }

    /// 20,000 headers: each is read back, not in another file, and not with any byte changed.
    #[test]
    fn a_header_is_read_as_it_was_written_or_not_at_all(
        (index, term, group, salt) in any::<(u64, u64, u32, u64)>(),
        payload in prop::collection::vec(any::<u8>(), 0..64),
        at in 0..HEADER,
        change in 1..=u8::MAX,
    ) {
        let mut bytes = Vec::new();
        let record = Record { index, term, kind: Kind::Members, payload: payload.into() };
        record.encode(group, salt, &mut bytes);
        let header = Header::decode(&bytes, salt).unwrap();
        prop_assert_eq!((header.index, header.term, header.group), (index, term, group));
        prop_assert_eq!((header.kind, header.size()), (Kind::Members, bytes.len()));
        prop_assert_eq!(Header::decode(&bytes, salt.wrapping_add(1)), None);
        bytes[at] ^= change;
        // Three bytes of the header are not used, but under its check sum as well.
        prop_assert_eq!(Header::decode(&bytes, salt), None);
    }
}

/// The log that is damaged, made once: making one waits for the disk.
static GOOD: OnceLock<(TempDir, Vec<Record>)> = OnceLock::new();

/// Ways in which a file is damaged.
#[derive(Clone, Debug)]
enum Damage {
    Byte(prop::sample::Index, u8),
    Zeros(prop::sample::Index, usize),
    Cut(prop::sample::Index),
    /// Bytes copied to another place of the file.
    Copy(prop::sample::Index, prop::sample::Index, usize),
    Longer(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<Index>(), 1..600_usize).prop_map(|(at, len)| Damage::Zeros(at, len)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), any::<Index>(), 1..200_usize)
            .prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
        prop::collection::vec(any::<u8>(), 1..100).prop_map(Damage::Longer),
    ]
}

fn harm(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Byte(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Damage::Zeros(at, len) => {
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(0);
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Copy(from, to, len) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let len = (*len).min(bytes.len() - from.max(to));
            bytes.copy_within(from..from + len, to);
        }
        Damage::Longer(more) => bytes.extend(more),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// 2,000 damaged files: refused as damaged, or read as a beginning of what was written, and the log goes on.
    #[test]
    fn a_damaged_log_is_a_beginning_of_what_was_written_or_refused(
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (dir, records) = GOOD.get_or_init(|| {
            let (dir, records, _) = three_groups();
            (dir, records)
        });
        let damaged = copy(dir.path());
        let path = files(damaged.path())[0].clone();
        let mut bytes = std::fs::read(&path).unwrap();
        damages.iter().for_each(|damage| harm(&mut bytes, damage));
        std::fs::write(&path, bytes).unwrap();
        match Log::open(damaged.path(), super::MEMBER, super::files_of(1 << 20)) {
            Ok((log, _)) => {
                let found = all(&log);
                prop_assert_eq!(&found[..], &records[..found.len()]);
                append(&log, vec![record(found.len() as u64, 9, 3)]);
                drop(log);
                prop_assert_eq!(all(&open(damaged.path()).0).len(), found.len() + 1);
            }
            Err(error) => prop_assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
        }
    }
}
