//! The snapshot as a stream: the store's file, filled up with zeros to whole sectors, and the SHA-256 of all
//! that, which etcd's clients look for at the end.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::unfold;
use pontoon_store::SnapshotStream;
use sha2::{Digest, Sha256};

use crate::grpc::{Answer, frame, refused, streaming};
use crate::proto::SnapshotResponse;
use crate::server::EtcdServer;
use crate::status::{Code, Status};

const SECTOR: u64 = 512;
const SUM_BYTES: u64 = 32;

/// A snapshot on its way.
struct Sending {
    server: EtcdServer,
    snapshot: SnapshotStream,
    sum: Sha256,
    /// Zeros that follow the snapshot.
    padding: u64,
}

impl EtcdServer {
    pub(super) async fn snapshot(self) -> Answer {
        let snapshot = match self.inner.store.snapshot_stream().await {
            Ok(snapshot) => snapshot,
            Err(error) => return refused(&error.into()),
        };
        let padding = snapshot.remaining().next_multiple_of(SECTOR) - snapshot.remaining();
        let sending = Sending { server: self, snapshot, sum: Sha256::new(), padding };
        let answers = unfold(Some(sending), |sending| async {
            let mut sending = sending?;
            match sending.next().await {
                Ok((answer, true)) => Some((Ok(answer), Some(sending))),
                Ok((answer, false)) => Some((Ok(answer), None)),
                Err(status) => Some((Err(status), None)),
            }
        });
        streaming(answers.boxed())
    }
}

impl Sending {
    /// The next piece, and whether there is one after it.
    async fn next(&mut self) -> Result<(Bytes, bool), Status> {
        match self.snapshot.next().await {
            Some(Ok(blob)) => {
                self.sum.update(&blob);
                let left = self.snapshot.remaining() + self.padding + SUM_BYTES;
                Ok((self.answer(blob, left), true))
            }
            Some(Err(error)) => {
                Err(Status::new(Code::Unavailable, format!("read the snapshot: {error}")))
            }
            None => {
                let zeros = usize::try_from(self.padding).expect("less than a sector");
                let mut last = vec![0; zeros];
                self.sum.update(&last);
                last.extend_from_slice(&self.sum.finalize_reset());
                Ok((self.answer(last.into(), 0), false))
            }
        }
    }

    fn answer(&self, blob: Bytes, remaining_bytes: u64) -> Bytes {
        let header = self.server.header(self.snapshot.revision());
        frame(&SnapshotResponse { header, remaining_bytes, blob })
    }
}
