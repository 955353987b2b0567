//! `pontoon lock`: runs a program while it holds a lock of Consul's API, which `consul lock` sees as its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::consul::{Consul, escape, pause_without};
use crate::cli::Lock;

/// How long a lock outlives whoever cannot be reached any more.
const TTL: Duration = Duration::from_secs(15);
/// The pause between two renewals, and after something was refused.
const RENEW: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);
/// How long a program may take to end after the lock was lost.
const GRACE: Duration = Duration::from_secs(5);
/// The number by which Consul's clients know a lock.
const LOCK_FLAG: u64 = 3_304_740_253_564_472_344;

/// Takes the lock, runs the program, gives the lock back; the exit code is the program's.
///
/// # Errors
/// When the lock could not be had, or was lost.
pub(super) async fn run(options: Lock) -> anyhow::Result<ExitCode> {
    let consul = Consul::new(&options.api)?;
    let key = format!("{}/.lock", options.prefix.trim_matches('/'));
    let name = format!("pontoon lock at {}", options.prefix);
    let body = json!({"Name": name, "TTL": "15s"}).to_string().into_bytes();
    let made = consul.ask(Method::PUT, "/v1/session/create", body).await?.json()?;
    let id = made["ID"].as_str().context("the server made no session")?.to_owned();
    let held = Held { consul, key: escape(&key), id };
    let done = held.run(&options).await;
    held.give_back().await;
    done
}

/// A lock that is held, or is to be.
struct Held {
    consul: Consul,
    /// The key, escaped.
    key: String,
    /// The session that holds it.
    id: String,
}

impl Held {
    async fn run(&self, options: &Lock) -> anyhow::Result<ExitCode> {
        // A lock that nobody renews is lost whatever else is done.
        tokio::select! {
            lost = self.renew() => return Err(lost),
            taken = self.acquire(options.timeout.map(Duration::from_secs)) => taken?,
        }
        let (program, arguments) = options.command.split_first().context("name a program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("CONSUL_LOCK_HELD", "true")
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {program}"))?;
        let lost = tokio::select! {
            status = wait(&mut child) => return Ok(code(status?)),
            lost = self.renew() => lost,
            lost = self.watch() => lost,
        };
        end(&mut child).await;
        Err(lost.context("the lock was lost, and the program was ended"))
    }

    /// Returns when the lock is held.
    async fn acquire(&self, timeout: Option<Duration>) -> anyhow::Result<()> {
        let give_up = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let path = format!("/v1/kv/{}?acquire={}&flags={LOCK_FLAG}", self.key, self.id);
            let answer = self.consul.ask(Method::PUT, &path, Vec::new()).await?;
            if answer.json()? == Value::Bool(true) {
                return Ok(());
            }
            let waiting = self.wait_for_release();
            match give_up {
                None => waiting.await?,
                Some(at) => match tokio::time::timeout_at(at, waiting).await {
                    Ok(waited) => waited?,
                    Err(_) => bail!("the lock is held by somebody else, and --timeout is over"),
                },
            }
        }
    }

    /// Returns when nobody holds the lock any more; then there may be a delay before it can be had.
    async fn wait_for_release(&self) -> anyhow::Result<()> {
        let mut index = 0;
        loop {
            let path = format!("/v1/kv/{}?index={index}", self.key);
            let answer = self.consul.ask(Method::GET, &path, Vec::new()).await?;
            let is_free =
                answer.status == StatusCode::NOT_FOUND || answer.json()?[0]["Session"].is_null();
            if is_free {
                tokio::time::sleep(PAUSE).await;
                return Ok(());
            }
            index = answer.index;
            pause_without(index).await;
        }
    }

    /// Keeps the session; returns when it has ended, or may have.
    async fn renew(&self) -> anyhow::Error {
        let mut lives_until = Instant::now() + TTL;
        loop {
            tokio::time::sleep(RENEW).await;
            let path = format!("/v1/session/renew/{}", self.id);
            let asked = Instant::now();
            let renewing = self.consul.ask(Method::PUT, &path, Vec::new());
            match tokio::time::timeout_at(lives_until, renewing).await {
                Ok(Ok(answer)) if answer.status == StatusCode::NOT_FOUND => {
                    return anyhow!("the session has ended");
                }
                Ok(Ok(_)) => lives_until = asked + TTL,
                Ok(Err(error)) if asked >= lives_until => return error,
                Ok(Err(_)) => {}
                Err(_) => return anyhow!("the server did not answer for {TTL:?}"),
            }
        }
    }

    /// Returns when somebody else has the lock, or nobody.
    async fn watch(&self) -> anyhow::Error {
        let mut index = 0;
        loop {
            let path = format!("/v1/kv/{}?consistent&index={index}", self.key);
            // That it cannot be asked is for the renewal to judge.
            let Ok(answer) = self.consul.ask(Method::GET, &path, Vec::new()).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let holder = match answer.status {
                StatusCode::NOT_FOUND => Value::Null,
                _ => answer.json().map_or(Value::Null, |found| found[0]["Session"].clone()),
            };
            if holder != Value::String(self.id.clone()) {
                return anyhow!("the key has another holder");
            }
            index = answer.index;
            pause_without(index).await;
        }
    }

    /// Gives the lock back and deletes its key, unless others wait for it. What fails here ends with the session's time.
    async fn give_back(&self) {
        let release = format!("/v1/kv/{}?release={}&flags={LOCK_FLAG}", self.key, self.id);
        let released = self.consul.ask(Method::PUT, &release, Vec::new()).await;
        if let Ok(Ok(Value::Bool(true))) = released.map(|answer| answer.json()) {
            let path = format!("/v1/kv/{}", self.key);
            let found = self.consul.ask(Method::GET, &path, Vec::new());
            if let Ok(Ok(found)) = found.await.map(|answer| answer.json())
                && found[0]["Session"].is_null()
                && let Some(index) = found[0]["ModifyIndex"].as_u64()
            {
                let path = format!("/v1/kv/{}?cas={index}", self.key);
                self.consul.ask(Method::DELETE, &path, Vec::new()).await.ok();
            }
        }
        let path = format!("/v1/session/destroy/{}", self.id);
        self.consul.ask(Method::PUT, &path, Vec::new()).await.ok();
    }
}

/// Waits for the program, which is told what this command is told.
async fn wait(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let told = tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => Signal::INT,
            _ = terminate.recv() => Signal::TERM,
        };
        tell(child, told);
    }
}

async fn end(child: &mut Child) {
    tell(child, Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.ok();
    }
}

fn tell(child: &Child, told: Signal) {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(id) = id {
        kill_process(id, told).ok();
    }
}

/// The program's exit code, or what a shell makes of a signal.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
