//! Keeps this node told what it is to be: on a manager from its own view, on a worker from any manager.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::Method;
use http_body_util::BodyExt;

use super::{Member, Order};
use crate::assignment::Line;
use crate::assignment::follow::{Follower, News};
use crate::rpc::Refusal;

/// A stream that has been silent for this long is dead: it says that it lives every two seconds.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// Pause before another stream is asked for; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// The longest line: an object is at most 1.5 MB, its JSON with the metadata of the API somewhat more.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Follows what this node is to be.
pub(super) struct Following {
    member: Member,
    follower: Follower,
}

impl Following {
    /// Follows for this member.
    pub(super) fn new(member: Member, follower: Follower) -> Self {
        Self { member, follower }
    }

    /// Follows until the member stops.
    pub(super) async fn run(mut self) {
        let stop = self.member.inner.stop.clone();
        let mut pause = PAUSE;
        while !stop.is_cancelled() {
            let lines = tokio::select! {
                lines = self.follow() => lines,
                () = stop.cancelled() => return,
            };
            match lines {
                Ok(0) => {}
                Ok(_) => pause = PAUSE,
                Err(refusal) => {
                    tracing::warn!(error = refusal.message, "no manager says what to run");
                    if refusal.is_removed() {
                        self.member.removed();
                    }
                }
            }
            self.follower.interrupted();
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = stop.cancelled() => return,
            }
        }
    }

    /// One stream to its end; answers how many lines it had.
    async fn follow(&mut self) -> Result<usize, Refusal> {
        if let Some(manager) = &self.member.inner.manager {
            let node = self.member.membership().record();
            let mut lines = manager.source.lines(&node, self.member.inner.stop.child_token());
            let mut count = 0;
            while let Some(line) = lines.recv().await {
                count += 1;
                self.take(line);
            }
            return Ok(count);
        }
        let client = self.member.inner.client.clone();
        let response = client.send(Method::GET, "/v1/assignments", bytes::Bytes::new()).await?;
        if !response.status().is_success() {
            let status = response.status();
            let refusal = crate::rpc::read_json::<Refusal, _>(response.into_body()).await;
            return Err(refusal
                .unwrap_or_else(|_| Refusal::new(status, format!("a manager answered {status}"))));
        }
        let mut body = response.into_body();
        let mut buffer = BytesMut::new();
        let mut count = 0;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            count += self.take_lines(&mut buffer)?;
            if buffer.len() > LINE_BYTES_MAX {
                return Err(Refusal::unavailable("a manager sent a line that is too long"));
            }
        }
        Ok(count)
    }

    fn take_lines(&mut self, buffer: &mut BytesMut) -> Result<usize, Refusal> {
        let mut count = 0;
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end);
            buffer.advance(1);
            let line: Line = serde_json::from_slice(&line).map_err(|e| {
                Refusal::unavailable(format!("a manager sent a line that cannot be read: {e}"))
            })?;
            self.take(line);
            count += 1;
        }
        Ok(count)
    }

    fn take(&mut self, line: Line) {
        let is_complete = matches!(line, Line::Complete);
        match self.follower.take(line) {
            Some(News::Managers(managers)) => self.member.set_managers(managers),
            Some(News::Nodes(nodes)) => self.member.set_nodes(nodes),
            Some(News::Role(role)) if role != self.member.membership().role => {
                // A full queue holds this very order already.
                self.member.inner.orders.try_send(Order::ChangeRole(role)).ok();
            }
            Some(News::Gossip(keys)) => self.member.set_gossip_keys(&keys),
            _ => {}
        }
        if is_complete && self.member.inner.manager.is_none() {
            self.member.settle();
        }
    }
}
