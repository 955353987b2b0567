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
