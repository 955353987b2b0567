//! Makes and starts a container, and says what happened.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use pontoon_container::ContainerInfo;
use thiserror::Error;
use tracing::debug;

use super::Worker;
use super::container_spec::ToRun;
use crate::container::ConfigError;
use crate::pod::record::container_id;
use crate::pod::state::{Exit, ImageState, Run, Wait, after, back_off};
use crate::volume::sandbox_mounts::mount_in;

const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// What a shell says of a program that cannot be run is 126 or 127; of a container that cannot be started, 128.
const START_ERROR: i32 = 128;

/// Why a container does not run.
#[derive(Debug, Error)]
enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Create(pontoon_container::Error),
    #[error("{0}")]
    Files(#[from] io::Error),
    /// It was made, but its program cannot be run.
    #[error("{0}")]
    Program(pontoon_container::Error),
}

impl StartError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "CreateContainerConfigError",
            Self::Create(_) | Self::Files(_) => "CreateContainerError",
            Self::Program(_) => "StartError",
        }
    }
}

impl Worker {
    pub(super) async fn start(&mut self, name: &str) {
        self.remove_last_run(name).await;
        self.state.container_mut(name).next_run();
        match self.try_start(name).await {
            Ok(info) => {
                let started_at = info.started_at.and_then(|at| Timestamp::try_from(at).ok());
                let started_at = started_at.unwrap_or_else(|| self.shared.now());
                let id = self.shown_id(name, self.state.container(name).restarts);
                self.state.container_mut(name).began(id, started_at);
                self.event(false, "Started", format!("Started container {name}"), Some(name));
                self.follow(name);
            }
            Err(error) => self.start_failed(name, &error),
        }
    }

    async fn try_start(&mut self, name: &str) -> Result<ContainerInfo, StartError> {
        let Some(cell) = self.cell.clone() else {
            return Err(io::Error::other("the pod has no sandbox").into());
        };
        self.prepare_files(name)?;
        let ToRun { spec, sub_paths, must_not_be_root } = self.to_run(name)?;
        mount_in(cell.pid(), Vec::new(), sub_paths).await?;
        let id = spec.id.clone();
        let made = cell.create(spec).await.map_err(StartError::Create)?;
        if must_not_be_root && made.uid == 0 {
            cell.delete(&id).await.map_err(StartError::Create)?;
            return Err(ConfigError::RunsAsRoot.into());
        }
        self.event(false, "Created", format!("Created container: {name}"), Some(name));
        cell.start(&id).await.map_err(StartError::Program)
    }

    /// Makes the file for the last words, and removes logs that nobody can ask for any more.
    fn prepare_files(&self, name: &str) -> io::Result<()> {
        let message = self.dirs.termination_message(name);
        if let Some(parent) = message.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&message, "")?;
        fs::set_permissions(&message, fs::Permissions::from_mode(0o666))?;
        let log = self.dirs.log(name, 0);
        let directory = log.parent().unwrap_or(&log);
        fs::create_dir_all(directory)?;
        remove_old_logs(directory, self.state.container(name).restarts)
    }

    /// The run before is kept until now for its files and its end.
    async fn remove_last_run(&self, name: &str) {
        let own = self.state.container(name);
        if let (Run::Exited(_), Some(cell)) = (&own.run, &self.cell)
            && let Err(error) = cell.delete(&container_id(name, own.restarts)).await
        {
            debug!(%error, "removing a container's last run");
        }
    }

    fn start_failed(&mut self, name: &str, error: &StartError) {
        let message = error.to_string();
        self.event(true, "Failed", format!("Error: {message}"), Some(name));
        let now = self.shared.now();
        if let StartError::Program(_) = error {
            // It counts as a run that ended, so that the restart policy and its pauses apply.
            let id = self.shown_id(name, self.state.container(name).restarts);
            let exit = Exit {
                container_id: id,
                code: START_ERROR,
                signal: None,
                reason: error.reason().to_owned(),
                message: Some(message),
                started_at: None,
                finished_at: now,
            };
            return self.ended(name, exit);
        }
        let own = self.state.container_mut(name);
        if matches!(error, StartError::Create(_)) {
            // Its layers may have been removed meanwhile: it is looked for again.
            own.image = ImageState::Unknown;
        }
        let pause = back_off(FIRST_RETRY, LONGEST_RETRY, own.start_failures);
        own.start_failures = own.start_failures.saturating_add(1);
        own.run = Run::Waiting(Wait {
            reason: error.reason().to_owned(),
            message: Some(message),
            retry_at: Some(after(now, pause)),
        });
    }
}

/// Keeps the logs of the present run and of the one before.
fn remove_old_logs(directory: &Path, restarts: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.split('.').next()?.parse::<u32>().ok());
        if number.is_some_and(|number| number.saturating_add(1) < restarts) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
