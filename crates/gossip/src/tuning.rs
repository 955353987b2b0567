//! The figures of each profile, in milliseconds, and how they follow the size of the cluster.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use crate::config::Profile;

/// Bytes of a protocol message, so that sealed it fits a datagram of 1,400.
pub(crate) const MAX_MESSAGE: usize = crate::seal::MAX_DATAGRAM - crate::seal::OVERHEAD;
/// How long a dead member is remembered.
pub(crate) const REMEMBER_MS: u64 = 72 * 3_600_000;
/// How often what is too old is looked for.
pub(crate) const REAP_MS: u64 = 600_000;
/// How many times a suspect whose machine still answers is given more time.
pub(crate) const MAX_EXTENSIONS: u8 = 4;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// One member is probed in each.
    pub(crate) probe_ms: u64,
    /// After this without an answer others are asked to probe.
    pub(crate) answer_ms: u64,
    pub(crate) suspicion_ms: u64,
    pub(crate) gossip_ms: u64,
    /// Full states are exchanged with one member, between this and twice this apart.
    pub(crate) exchange_ms: u64,
    /// A failed member is tried this often.
    pub(crate) reconnect_ms: u64,
    /// Our own loop may be this late before it counts as starved.
    pub(crate) slack_ms: u64,
    /// A suspect whose port refuses is declared dead after this.
    pub(crate) refused_ms: u64,
}

impl From<Profile> for Tuning {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Lan => Self {
                probe_ms: 300,
                answer_ms: 100,
                suspicion_ms: 1_000,
                gossip_ms: 150,
                exchange_ms: 15_000,
                reconnect_ms: 1_500,
                slack_ms: 50,
                refused_ms: 200,
            },
            Profile::Wan => Self {
                probe_ms: 3_000,
                answer_ms: 1_000,
                suspicion_ms: 8_000,
                gossip_ms: 500,
                exchange_ms: 30_000,
                reconnect_ms: 10_000,
                slack_ms: 250,
                refused_ms: 2_000,
            },
        }
    }
}

impl Tuning {
    /// The suspicion grows with the logarithm of the cluster, as news takes that much longer.
    pub(crate) fn suspicion(&self, members: usize) -> u64 {
        let digits = (members.max(1) as f64).log10().max(1.0);
        (self.suspicion_ms as f64 * digits) as u64
    }

    pub(crate) fn foca(&self, members: usize) -> foca::Config {
        let transmissions = ((members as f64 + 2.0).log2() * 2.0).ceil().clamp(4.0, 60.0) as u8;
        let three = NonZeroUsize::MIN.saturating_add(2);
        foca::Config {
            probe_period: Duration::from_millis(self.probe_ms),
            probe_rtt: Duration::from_millis(self.answer_ms),
            num_indirect_probes: three,
            max_transmissions: NonZeroU8::MIN.saturating_add(transmissions - 1),
            suspect_to_down_after: Duration::from_millis(self.suspicion(members)),
            // The core forgets the dead itself, by their age.
            remove_down_after: None,
            max_packet_size: NonZeroUsize::MIN.saturating_add(MAX_MESSAGE - 1),
            notify_down_members: true,
            // New and lost members are found by exchanging full states.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(foca::PeriodicParams {
                frequency: Duration::from_millis(self.gossip_ms),
                num_members: three,
            }),
        }
    }
}
