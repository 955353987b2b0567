//! What others ask of a running pod: its logs, a command in it, what it uses.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use pontoon_container::{ExecSession, ExecSpec, Stats};
use thiserror::Error;

use crate::agent::Agent;
use crate::engine::Cell;
use crate::logs::{LogOptions, Source, stream};
use crate::pod::record::Record;
use crate::pod::spec::all_containers;
use crate::pod::worker::View;
use crate::volume::PodDirs;

/// Why a pod's logs or a command in it cannot be had.
#[derive(Debug, Error)]
pub enum AccessError {
    /// No such pod on this node.
    #[error("pod {namespace}/{name} is not on this node")]
    NoPod { namespace: String, name: String },
    /// The pod has no such container.
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer { pod: String, container: String },
    /// The container has not run yet.
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    NotStarted { pod: String, container: String, reason: String },
    /// There was no run before the present one.
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { pod: String, container: String },
    /// The container does not run now.
    #[error("container {container} of pod {pod} is not running")]
    NotRunning { pod: String, container: String },
    /// The runtime could not do it.
    #[error("{0}")]
    Runtime(#[from] pontoon_container::Error),
}

/// Why it is not known which layers are in use.
#[derive(Debug, Error)]
pub enum InUseError {
    /// The agent does not run, or has not looked at everything yet.
    #[error("this node's pods have not all been looked at yet; try again in a moment")]
    NotYet,
    /// What is written of the pods cannot be read.
    #[error("reading which images this node's pods use: {0}")]
    Records(#[from] io::Error),
}

/// The unpacked layers that the pods below `data_dir` use as far as it is written, and it is before a container starts:
/// for a node whose agent does not run.
///
/// # Errors
/// When a record cannot be read.
pub fn recorded_layers(data_dir: &Path) -> Result<HashSet<PathBuf>, InUseError> {
    Ok(Record::layers(data_dir)?)
}

/// A command to run in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecOptions {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Give it a stdin.
    pub stdin: bool,
    /// Give it a terminal.
    pub tty: bool,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerStats {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// What it uses now.
    pub stats: Stats,
}

impl Agent {
    fn find(&self, namespace: &str, pod: &str, container: &str) -> Result<View, AccessError> {
        let view = self.view(namespace, pod).ok_or_else(|| AccessError::NoPod {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
        })?;
        let known = all_containers(&view.pod).any(|c| c.name == container);
        known.then_some(view).ok_or_else(|| AccessError::NoContainer {
            pod: pod.to_owned(),
            container: container.to_owned(),
        })
    }

    /// The wanted part of a container's log, as the container wrote it. Dropping the stream ends the reading.
    pub fn logs(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: LogOptions,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, AccessError> {
        let view = self.find(namespace, pod, container)?;
        let (restarts, running) = view.containers.get(container).cloned().unwrap_or_default();
        let uid = view.pod.metadata.uid.clone().unwrap_or_default();
        let config = self.config();
        let dirs = PodDirs::new(&config.data_dir, &config.run_dir, &uid);
        let log = dirs.log(container, restarts);
        let (pod, container) = (pod.to_owned(), container.to_owned());
        let path = match restarts.checked_sub(1) {
            Some(before) if options.previous => dirs.log(&container, before),
            None if options.previous => return Err(AccessError::NoPrevious { pod, container }),
            // A new run that waits to start has no log yet; the last one's is the newest there is.
            Some(before) if !log.exists() => dirs.log(&container, before),
            _ => log,
        };
        if !path.exists() && running.is_none() {
            let reason = waiting_reason(&view, &container);
            return Err(AccessError::NotStarted { pod, container, reason });
        }
        let (agent, namespace) = (self.clone(), namespace.to_owned());
        let previous = options.previous;
        let is_running = move || {
            let now = agent.view(&namespace, &pod);
            let run = now.as_ref().and_then(|view| view.containers.get(&container));
            !previous && run.is_some_and(|(n, id)| *n == restarts && id.is_some())
        };
        Ok(stream(Source { path, is_running: Box::new(is_running) }, options))
    }

    /// Runs a command in a running container.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        options: ExecOptions,
    ) -> Result<ExecSession, AccessError> {
        let view = self.find(namespace, pod, container)?;
        let running = view.containers.get(container).and_then(|(_, id)| id.clone());
        let not_running =
            || AccessError::NotRunning { pod: pod.to_owned(), container: container.to_owned() };
        let cell: Arc<dyn Cell> = view.cell.ok_or_else(not_running)?;
        let id = running.ok_or_else(not_running)?;
        let ExecOptions { command: argv, stdin, tty } = options;
        let spec = ExecSpec { argv, stdin, tty, ..ExecSpec::default() };
        Ok(cell.exec(&id, spec).await?)
    }

    /// The unpacked layers that containers of this node are made of, or will be: not to be removed.
    ///
    /// # Errors
    /// When not all of them are known.
    pub fn layers_in_use(&self) -> Result<HashSet<PathBuf>, InUseError> {
        if !self.has_adopted() {
            return Err(InUseError::NotYet);
        }
        let mut layers = recorded_layers(&self.config().data_dir)?;
        layers.extend(self.views().into_iter().flat_map(|view| view.layers));
        Ok(layers)
    }

    /// What every running container uses; one that ends meanwhile is left out.
    pub async fn stats(&self) -> Vec<ContainerStats> {
        let mut all = Vec::new();
        for view in self.views() {
            let Some(cell) = &view.cell else { continue };
            for (container, (_, id)) in &view.containers {
                let Some(id) = id else { continue };
                if let Ok(stats) = cell.stats(id).await {
                    all.push(ContainerStats {
                        namespace: view.pod.metadata.namespace.clone().unwrap_or_default(),
                        pod: view.pod.metadata.name.clone().unwrap_or_default(),
                        container: container.clone(),
                        stats,
                    });
                }
            }
        }
        all
    }
}

/// Why a container does not run yet, in the status' word.
fn waiting_reason(view: &View, container: &str) -> String {
    let status = &view.status;
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let own = all.into_iter().find(|own| own.name == container);
    let waiting = own.and_then(|own| own.state.as_ref()?.waiting.as_ref()?.reason.clone());
    waiting.unwrap_or_else(|| "ContainerCreating".to_owned())
}
