//! One key's versions.

use super::packed::Packed;

/// A key at one revision: there, or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Live(Packed),
    Gone(u64),
}

impl Version {
    /// The revision that made this version.
    pub(super) fn revision(&self) -> u64 {
        #[cfg(test)]
        tests::LOOKED_AT.set(tests::LOOKED_AT.get() + 1);
        match self {
            Version::Live(packed) => packed.mod_revision(),
            Version::Gone(revision) => *revision,
        }
    }

    pub(super) fn live(&self) -> Option<&Packed> {
        match self {
            Version::Live(packed) => Some(packed),
            Version::Gone(_) => None,
        }
    }
}

/// A key's versions since the last compaction, oldest first, the current one apart.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    current: Version,
    /// Boxed, for most keys have one version.
    #[expect(clippy::box_collection, reason = "a million keys have it, and few have any in it")]
    older: Option<Box<Vec<Version>>>,
}

impl Slot {
    pub(super) fn new(current: Version) -> Slot {
        Slot { current, older: None }
    }

    /// The key now.
    pub(super) fn live(&self) -> Option<&Packed> {
        self.current.live()
    }

    /// The key as it was at `revision`.
    pub(super) fn at(&self, revision: u64) -> Option<&Packed> {
        if self.current.revision() <= revision {
            return self.current.live();
        }
        self.older().iter().rev().find(|version| version.revision() <= revision)?.live()
    }

    /// Makes `version` the current one.
    pub(super) fn push(&mut self, version: Version) {
        let before = std::mem::replace(&mut self.current, version);
        self.older.get_or_insert_default().push(before);
    }

    fn older(&self) -> &[Version] {
        self.older.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Drops versions replaced at or before `revision`; true if nothing is left to keep.
    pub(super) fn forget_before(&mut self, revision: u64) -> bool {
        if self.current.revision() <= revision {
            self.older = None;
            return self.current.live().is_none();
        }
        let Some(older) = self.older.as_deref_mut() else { return false };
        // In order, so that what was compacted is found without a look at all that was not.
        let compacted = older.partition_point(|version| version.revision() <= revision);
        if let Some(keep) = compacted.checked_sub(1) {
            // The newest version at or before `revision` is what a read at `revision` sees; if
            // that is "deleted", it need not be kept to be seen.
            let from = if older[keep].live().is_some() { keep } else { keep + 1 };
            older.drain(..from);
        }
        if older.is_empty() {
            self.older = None;
        }
        false
    }

    /// All versions, oldest first.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.older().iter().chain(std::iter::once(&self.current))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::packed::Numbers;
    use super::*;

    thread_local! {
        /// How often the revision of a version was asked for.
        pub(super) static LOOKED_AT: Cell<u64> = const { Cell::new(0) };
    }

    fn live(revision: u64, version: u64) -> Version {
        let numbers = Numbers { create_revision: 1, mod_revision: revision, version, lease: 0 };
        Version::Live(Packed::new(numbers, b""))
    }

    /// A key that is written at each revision to `last`, deleted at each fifth, and twice at each seventh.
    fn written(last: u64) -> Slot {
        let mut slot = Slot::new(live(1, 1));
        for revision in 2..=last {
            match revision {
                r if r % 7 == 0 => {
                    slot.push(live(r, 1));
                    slot.push(Version::Gone(r));
                }
                r if r % 5 == 0 => slot.push(Version::Gone(r)),
                r => slot.push(live(r, r)),
            }
        }
        slot
    }

    #[test]
    fn what_is_kept_answers_as_before() {
        let last = 60;
        for compacted in 1..=last + 1 {
            let (whole, mut slot) = (written(last), written(last));
            // In two steps, as compactions follow each other.
            slot.forget_before(compacted / 2);
            let empty = slot.forget_before(compacted);
            for revision in compacted..=last + 1 {
                assert_eq!(slot.at(revision), whole.at(revision), "at {revision} of {compacted}");
            }
            let needless = slot.versions().filter(|version| version.revision() < compacted).count();
            assert!(needless <= 1, "{needless} before {compacted}");
            assert_eq!(empty, compacted >= last && whole.live().is_none());
        }
    }

    #[test]
    fn forgetting_a_little_looks_at_little() {
        let last = 10_000;
        let mut slot = written(last);
        for compacted in 1..100 {
            let before = LOOKED_AT.get();
            slot.forget_before(compacted);
            let looks = LOOKED_AT.get() - before;
            assert!(looks < 40, "{looks} of {last} versions");
        }
    }
}
