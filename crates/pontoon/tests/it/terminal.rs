//! A terminal of the test's own, with a command that has it for its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::world::wait;

/// A terminal and the command that runs in it.
pub(crate) struct Terminal {
    ours: File,
    said: Arc<Mutex<String>>,
    child: Child,
}

impl Terminal {
    /// Begins a command in a terminal of so many columns and rows.
    pub(crate) fn begin(command: &Command, size: (u16, u16)) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = File::from(ioctl_tiocgptpeer(&ours, flags).unwrap());
        let ours = File::from(ours);
        set_size(&ours, size);
        // It makes the terminal that of the session, so that the kernel tells of its changes.
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let end = || theirs.try_clone().unwrap();
        let child = session.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut reader, heard) = (ours.try_clone().unwrap(), said.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal whose other end is closed gives an error.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { ours, said, child }
    }

    /// Makes it so many columns and rows.
    pub(crate) fn resize(&self, size: (u16, u16)) {
        set_size(&self.ours, size);
    }

    pub(crate) fn type_in(&self, bytes: &[u8]) {
        (&self.ours).write_all(bytes).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, words: &str) {
        wait(&format!("{words:?} in {}", self.said.lock().unwrap()), || {
            self.said.lock().unwrap().contains(words).then_some(())
        });
    }

    /// Waits for the command and gives its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn set_size(terminal: &File, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}
