//! The Watch service: many watches on one stream.
//!
//! A stream asks its watches for events only when the connection has room for an answer. A client that does not
//! read makes its watches lag; the store ends those, and they go on from the history, so that what waits is
//! bounded and nothing is lost.

mod session;
mod watcher;

use futures::StreamExt;
use futures::stream::unfold;

use crate::grpc::{Answer, Call, Messages, streaming};
use crate::server::EtcdServer;
use session::Session;

impl EtcdServer {
    pub(crate) fn watch(self, call: Call, wants_leader: bool) -> Answer {
        let session = Session::new(self, Messages::of(call), wants_leader);
        let answers = unfold(Some(session), |session| async {
            let mut session = session?;
            match session.next().await {
                Ok(None) => None,
                Ok(Some(answer)) => Some((Ok(answer), Some(session))),
                Err(status) => Some((Err(status), None)),
            }
        });
        streaming(answers.boxed())
    }
}
