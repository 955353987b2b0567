//! Handing leadership over: asked for, on shutdown, and when this member can no longer write.

use std::time::Duration;

use crate::core::Core;
use crate::error::MemberError;
use crate::member::{MemberId, Role};
use crate::runtime::{self, Instant};

/// How long a leader may take to hand over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

impl Core {
    /// Hands leadership to `to`, or to the voter that is most up to date; returns when another
    /// member leads.
    pub(crate) async fn transfer(&self, to: Option<MemberId>) -> Result<(), MemberError> {
        if !self.leader().is_me {
            return Ok(());
        }
        let target = match to {
            Some(id) if self.voters().contains(&id) => id,
            Some(id) => return Err(MemberError::NotFound { id }),
            None => match self.heir() {
                Some(id) => id,
                None => return Err(MemberError::LastVoter { id: self.me() }),
            },
        };
        if target == self.me() {
            return Ok(());
        }
        let mut leadership = self.leadership.subscribe();
        let sent = self.engine.trigger().transfer_leader(target).await;
        sent.map_err(|_| MemberError::Stopped)?;
        let began = Instant::now();
        let handed = leadership.wait_for(|now| !now.is_me && now.leader.is_some());
        match runtime::timeout(TRANSFER_TIMEOUT, handed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(MemberError::Stopped),
            Err(_) => {
                let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                Err(MemberError::NoLeader { waited_ms })
            }
        }
    }

    /// The voter that would lead best.
    fn heir(&self) -> Option<MemberId> {
        self.member_statuses()
            .into_iter()
            .filter(|member| member.role == Role::Voter && member.member.id != self.me())
            .filter(|member| member.silent_ms.is_some_and(|silent| silent < 1000))
            .max_by_key(|member| member.matched)
            .map(|member| member.member.id)
    }
}
