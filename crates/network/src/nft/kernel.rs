//! The netfilter socket: transactions go in by it, and the little that is asked of nftables.

use super::batch::{Batch, Family};
use crate::Result;
use crate::netlink::{self, Message, Socket, attributes, be_u64};
use crate::{NetworkError, network};
use std::sync::{Arc, Mutex, PoisonError};

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const TABLE_NAME: u16 = 1;
const TABLE_HANDLE: u16 = 4;
/// nftables' own limit is far higher; this leaves room for what is put around it.
const NAME: usize = 60;

/// nftables in one namespace.
#[derive(Debug)]
pub(super) struct Kernel(Socket);

impl Kernel {
    pub(super) fn open() -> Result<Self> {
        Ok(Self(Socket::open(netlink::Family::Netfilter)?))
    }

    /// The socket for a conversation with connection tracking.
    pub(super) fn socket(&mut self) -> &mut Socket {
        &mut self.0
    }

    /// All of it or nothing.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<()> {
        let edge = |kind: i32, what| {
            let mut header = [0; 4];
            header[2..].copy_from_slice(&SUBSYSTEM.to_be_bytes());
            Message::new(kind as u16, 0, &header, what)
        };
        let begin = edge(libc::NFNL_MSG_BATCH_BEGIN, "change nftables");
        let end = edge(libc::NFNL_MSG_BATCH_END, "end the change of nftables");
        self.0.batch(begin, batch.into_messages(), end)
    }

    /// A number that is the table's own, until it is removed; none: there is no such table.
    pub(super) fn handle(&mut self, family: Family, table: &str) -> Result<Option<u64>> {
        let kind = SUBSYSTEM << 8 | libc::NFT_MSG_GETTABLE as u16;
        let what = format!("look for the nftables table {table}");
        let mut message = Message::new(kind, 0, &[family as u8, 0, 0, 0], what);
        message.put_text(TABLE_NAME, table);
        let mut handle = None;
        let asked = self.0.ask(message, |answer| {
            let attributes = attributes(answer.payload.get(4..).unwrap_or_default());
            let found = attributes.into_iter().find(|a| a.kind == TABLE_HANDLE);
            handle = Some(found.map_or(0, |a| be_u64(a.value)));
        });
        match asked {
            Ok(()) => Ok(handle),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a table; false: there was none.
    pub(super) fn remove(&mut self, family: Family, table: &str) -> Result<bool> {
        let mut batch = Batch::new(family, table);
        batch.delete_table();
        match self.commit(batch) {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Runs `f` with what the mutex holds, on the pool for blocking work.
pub(super) async fn with<S: Send + 'static, T: Send + 'static>(
    state: &Arc<Mutex<S>>,
    what: &'static str,
    f: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
) -> Result<T> {
    let state = Arc::clone(state);
    network::blocking(what, move || f(&mut state.lock().unwrap_or_else(PoisonError::into_inner)))
        .await
}

/// A name that a table can have.
pub(super) fn check_name(name: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    if begins && name.len() <= NAME && name.bytes().all(good) {
        return Ok(());
    }
    Err(NetworkError::BadName(name.to_owned(), "an nftables table"))
}
