//! Reads a log: the older files first, from the right line on, and on as it grows if wanted.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use super::LogOptions;
use super::line::Line;

/// More files than the runtime keeps.
const MOST_FILES: u32 = 100;
const BLOCK: usize = 64 * 1024;
/// A line longer than this is passed on in pieces.
const LONGEST_LINE: usize = 1024 * 1024;
/// How soon what was written is seen by a follower: the pause grows while nothing comes.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Where a log is, and whether more may come.
pub(crate) struct Source {
    pub path: PathBuf,
    /// Whether the run that writes it is still running.
    pub is_running: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The wanted part of a log as a stream of pieces; reading stops when the stream is dropped.
pub(crate) fn stream(source: Source, options: LogOptions) -> impl Stream<Item = io::Result<Bytes>> {
    let (pieces, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut reader = Reader::new(&options);
        if let Err(error) = reader.run(&source, &options, &pieces).await {
            // A client that is gone need not know.
            drop(pieces.send(Err(error)).await);
        }
    });
    futures::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

struct Reader {
    since: Option<jiff::Timestamp>,
    timestamps: bool,
    left: u64,
    rest: Vec<u8>,
}

impl Reader {
    fn new(options: &LogOptions) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            left: options.limit_bytes.unwrap_or(u64::MAX),
            rest: Vec::new(),
        }
    }

    async fn run(
        &mut self,
        source: &Source,
        options: &LogOptions,
        to: &mpsc::Sender<io::Result<Bytes>>,
    ) -> io::Result<()> {
        let (files, start) = select(&source.path, options.tail)?;
        let mut newest = None;
        for (index, file) in files.into_iter().enumerate() {
            let mut file = file;
            file.seek(SeekFrom::Start(if index == 0 { start } else { 0 }))?;
            if !self.drain(&mut file, to).await? {
                return Ok(());
            }
            newest = Some(file);
        }
        if options.follow { self.follow(source, newest, to).await } else { Ok(()) }
    }

    /// Passes on what is in `file` from where it stands; false when nobody wants more.
    async fn drain(
        &mut self,
        file: &mut File,
        to: &mpsc::Sender<io::Result<Bytes>>,
    ) -> io::Result<bool> {
        loop {
            // Files of the page cache: a block costs less than handing it to another thread would.
            let mut block = vec![0; BLOCK];
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(true);
            }
            let piece = self.take(&block[..length]);
            if !piece.is_empty() && to.send(Ok(piece.into())).await.is_err() {
                return Ok(false);
            }
            if self.left == 0 {
                return Ok(false);
            }
        }
    }

    async fn follow(
        &mut self,
        source: &Source,
        newest: Option<File>,
        to: &mpsc::Sender<io::Result<Bytes>>,
    ) -> io::Result<()> {
        let mut file = newest;
        let mut pause = FIRST_PAUSE;
        loop {
            // Asked before the read: what was written before the end is then read after it.
            let running = (source.is_running)();
            let before = position(file.as_mut())?;
            if let Some(file) = &mut file
                && !self.drain(file, to).await?
            {
                return Ok(());
            }
            let moved = position(file.as_mut())? != before;
            let replaced = is_replaced(file.as_ref(), &source.path);
            if replaced {
                file = open(&source.path)?;
                continue;
            }
            if !running && !moved {
                return Ok(());
            }
            pause = if moved { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = to.closed() => return Ok(()),
            }
        }
    }

    /// The wanted text of the complete lines so far.
    fn take(&mut self, block: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(block);
        let end = match self.rest.iter().rposition(|&b| b == b'\n') {
            Some(end) => end + 1,
            None if self.rest.len() > LONGEST_LINE => self.rest.len(),
            None => return Vec::new(),
        };
        let tail = self.rest.split_off(end);
        let lines = std::mem::replace(&mut self.rest, tail);
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split(|&b| b == b'\n').filter_map(Line::parse) {
            match self.since {
                Some(since) if !line.is_since(since) => continue,
                // The lines are in the order of time.
                _ => self.since = None,
            }
            line.write(self.timestamps, &mut out);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        out.truncate(most);
        self.left -= out.len() as u64;
        out
    }
}

fn position(file: Option<&mut File>) -> io::Result<u64> {
    file.map_or(Ok(0), |file| file.stream_position())
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the log at `path` is another file than the one that is open.
fn is_replaced(file: Option<&File>, path: &Path) -> bool {
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let there = std::fs::metadata(path).ok().map(id);
    let here = file.and_then(|file| file.metadata().ok()).map(id);
    there.is_some() && there != here
}

/// The files to read in their order, and where in the first to begin.
fn select(path: &Path, tail: Option<u64>) -> io::Result<(Vec<File>, u64)> {
    let mut files = Vec::new();
    files.extend(open(path)?);
    for number in 1..MOST_FILES {
        let mut older = path.as_os_str().to_owned();
        older.push(format!(".{number}"));
        match open(Path::new(&older))? {
            Some(file) => files.push(file),
            None => break,
        }
    }
    let mut start = 0;
    if let Some(mut wanted) = tail {
        let mut needed = 0;
        for file in &files {
            needed += 1;
            let found = tail_offset(file, wanted)?;
            start = found.at;
            wanted = wanted.saturating_sub(found.lines);
            if wanted == 0 {
                break;
            }
        }
        files.truncate(needed);
    }
    files.reverse();
    Ok((files, start))
}

/// A place in a file and how many lines follow it.
pub(super) struct Tail {
    pub at: u64,
    pub lines: u64,
}

/// Where the last `wanted` lines of the file begin, read from its end.
pub(super) fn tail_offset(file: &File, wanted: u64) -> io::Result<Tail> {
    let length = file.metadata()?.len();
    if wanted == 0 {
        return Ok(Tail { at: length, lines: 0 });
    }
    let (mut end, mut lines) = (length, 0);
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let size = end.min(BLOCK as u64);
        let bytes = &mut block[..usize::try_from(size).unwrap_or(BLOCK)];
        file.read_exact_at(bytes, end - size)?;
        for (index, &byte) in bytes.iter().enumerate().rev() {
            let at = end - size + index as u64;
            // The break at the very end ends the last line and begins none.
            if byte == b'\n' && at + 1 < length {
                lines += 1;
                if lines == wanted {
                    return Ok(Tail { at: at + 1, lines });
                }
            }
        }
        end -= size;
    }
    Ok(Tail { at: 0, lines: lines + u64::from(length > 0) })
}

/// What is in the file from `at` on, at most a megabyte.
pub(super) fn read_from(file: &File, at: u64) -> io::Result<Vec<u8>> {
    let mut file = file;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(LONGEST_LINE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
