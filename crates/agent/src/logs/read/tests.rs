//! Cases for reading logs: tails over rotated files, times, limits, following.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;

use super::*;

fn line(second: u32, text: &str) -> String {
    format!("2026-11-23T05:00:{second:02}.000000000Z stdout F {text}\n")
}

/// A log of nine lines in three files, `1` to `9`, written at those seconds.
fn log() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    for (name, numbers) in [("0.log.2", 1..4), ("0.log.1", 4..7), ("0.log", 7..10)] {
        let text: String = numbers.map(|n| line(n, &n.to_string())).collect();
        fs::write(dir.path().join(name), text).unwrap();
    }
    (dir, path)
}

fn over(path: &Path) -> Source {
    Source { path: path.to_owned(), is_running: Box::new(|| false) }
}

async fn collect(source: Source, options: LogOptions) -> String {
    let pieces: Vec<_> = stream(source, options).map(|piece| piece.unwrap()).collect().await;
    String::from_utf8(pieces.concat()).unwrap()
}

#[track_caller]
fn numbers(text: &str) -> String {
    text.lines().collect()
}

#[tokio::test]
async fn all_files_in_their_order() {
    let (_dir, path) = log();
    assert_eq!(numbers(&collect(over(&path), LogOptions::default()).await), "123456789");
}

#[tokio::test]
async fn a_tail_reaches_into_older_files() {
    let (_dir, path) = log();
    for (tail, expected) in [(0, ""), (2, "89"), (3, "789"), (4, "6789"), (100, "123456789")] {
        let options = LogOptions { tail: Some(tail), ..LogOptions::default() };
        assert_eq!(numbers(&collect(over(&path), options).await), expected, "tail {tail}");
    }
}

#[tokio::test]
async fn since_timestamps_and_limit() {
    let (_dir, path) = log();
    let since = "2026-11-23T05:00:08Z".parse().ok();
    let options = LogOptions { since, ..LogOptions::default() };
    assert_eq!(numbers(&collect(over(&path), options).await), "89");
    let options = LogOptions { tail: Some(1), timestamps: true, ..LogOptions::default() };
    assert_eq!(collect(over(&path), options).await, "2026-11-23T05:00:09.000000000Z 9\n");
    let options = LogOptions { limit_bytes: Some(5), ..LogOptions::default() };
    assert_eq!(collect(over(&path), options).await, "1\n2\n3");
}

#[tokio::test]
async fn parts_of_a_line_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, "t stdout P ab\nt stdout F c\n").unwrap();
    assert_eq!(collect(over(&path), LogOptions::default()).await, "abc\n");
}

#[tokio::test]
async fn a_follower_sees_rotation_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    fs::write(&path, line(1, "1")).unwrap();
    let running = Arc::new(AtomicBool::new(true));
    let is_running = {
        let running = running.clone();
        Box::new(move || running.load(Ordering::Relaxed))
    };
    let source = Source { path: path.clone(), is_running };
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut pieces = Box::pin(stream(source, options));
    assert_eq!(pieces.next().await.unwrap().unwrap(), "1\n");
    fs::rename(&path, dir.path().join("0.log.1")).unwrap();
    fs::write(&path, line(2, "2")).unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "2\n");
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .map(|mut file| {
            io::Write::write_all(&mut file, line(3, "3").as_bytes()).unwrap();
        })
        .unwrap();
    running.store(false, Ordering::Relaxed);
    assert_eq!(pieces.next().await.unwrap().unwrap(), "3\n");
    assert!(pieces.next().await.is_none());
}

#[tokio::test]
async fn no_log_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(collect(over(&dir.path().join("none")), LogOptions::default()).await, "");
}

#[test]
fn the_last_words() {
    let (_dir, path) = log();
    assert_eq!(super::super::tail_for_message(&path), "7\n8\n9\n");
    assert_eq!(super::super::tail_for_message(Path::new("/nonexistent")), "");
}
