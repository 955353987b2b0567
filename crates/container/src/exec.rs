//! The daemon's end of a command that runs in a container: its streams, its terminal, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::Result;
use crate::info::Exit;

/// A running command. The fields can be taken apart and moved to tasks; dropping `exit` before the end kills the command.
#[derive(Debug)]
pub struct ExecSession {
    /// Writes to its stdin; dropping it is end of file (with a terminal, write 0x04). Present if asked for.
    pub stdin: Option<ExecInput>,
    /// Reads its stdout, or its terminal.
    pub stdout: Option<ExecOutput>,
    /// Reads its stderr; absent with a terminal.
    pub stderr: Option<ExecOutput>,
    /// Sets the size of its terminal; present with a terminal.
    pub resize: Option<Resizer>,
    /// Waits for its end.
    pub exit: ExecExit,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// The end of a command to come.
#[derive(Debug)]
pub struct ExecExit {
    pub(crate) connection: crate::sandbox::Connection,
}

impl ExecExit {
    /// Waits for the end. The streams may still hold output after it.
    pub async fn wait(mut self) -> Result<Exit> {
        self.connection.wait_exit().await
    }
}

/// Sets a terminal's size.
#[derive(Debug)]
pub struct Resizer(OwnedFd);

impl Resizer {
    pub(crate) fn new(terminal: OwnedFd) -> Self {
        Self(terminal)
    }

    /// Tells the terminal, and by SIGWINCH its programs, how large it is.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size = rustix::termios::Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(&self.0, size)?)
    }
}

/// A pipe or terminal to read from, without blocking.
#[derive(Debug)]
pub struct ExecOutput(AsyncFd<OwnedFd>);

/// A pipe or terminal to write to, without blocking.
#[derive(Debug)]
pub struct ExecInput(AsyncFd<OwnedFd>);

impl ExecOutput {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        crate::kernel::watch(fd).map(Self)
    }
}

impl ExecInput {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        crate::kernel::watch(fd).map(Self)
    }
}

impl AsyncRead for ExecOutput {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *unfilled)?));
            match read {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose last user is gone answers EIO, which is its end of file.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for ExecInput {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), buf)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
