//! One run of a container as the runtime makes it.

use pontoon_container::{ContainerSpec, LogConfig, Mount, MountKind, PidNamespace, Rootfs};

use super::Worker;
use crate::container::environment::environment;
use crate::container::program::{Program, program};
use crate::container::{ConfigError, limits, security};
use crate::pod::record::container_id;
use crate::pod::spec::{all_containers, spec};
use crate::volume::sandbox_mounts::SubPath;
use crate::volume::{ContainerMounts, mounts};

const TERMINATION_LOG: &str = "/dev/termination-log";

/// What the runtime is asked for, and what must be bound before.
pub(super) struct ToRun {
    pub spec: ContainerSpec,
    pub sub_paths: Vec<SubPath>,
    pub must_not_be_root: bool,
}

impl Worker {
    /// The next run of container `name`.
    pub(super) fn to_run(&self, name: &str) -> Result<ToRun, ConfigError> {
        let missing = || ConfigError::NoObject { kind: "container", name: name.to_owned() };
        let container = all_containers(&self.pod).find(|c| c.name == name).ok_or_else(missing)?;
        let restarts = self.state.container(name).restarts;
        let image = self.state.images.get(name).cloned().unwrap_or_default();
        let assignments = self.shared.assignments.borrow().clone();
        let around = self.shared.around(&self.pod, self.state.ip, &assignments);
        let variables = environment(&around, container)?;
        let ContainerMounts { mounts: mut all, sub_paths } =
            mounts(container, &self.volumes, &variables, &self.dirs)?;
        self.add_own_files(name, container.termination_message_path.as_deref(), &mut all);
        let Program { argv, environment, directory } =
            program(container, &image.defaults, variables)?;
        let mut env = environment;
        if !env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.push(("HOSTNAME".to_owned(), crate::pod::spec::hostname(&self.pod)));
        }
        let of_pod = spec(&self.pod);
        let spec = ContainerSpec {
            id: container_id(name, restarts),
            rootfs: Rootfs { layers: image.layers },
            argv,
            env,
            cwd: directory,
            user: security::user(&self.pod, container, &image.defaults.user)?,
            mounts: all,
            limits: limits::container_limits(container)?,
            security: security::security(&self.pod, container)?,
            tty: container.tty.unwrap_or(false),
            stdin: container.stdin.unwrap_or(false),
            log: LogConfig { path: Some(self.dirs.log(name, restarts)), ..LogConfig::default() },
            pid_namespace: match (of_pod.host_pid, of_pod.share_process_namespace) {
                (Some(true), _) => PidNamespace::Host,
                (_, Some(true)) => PidNamespace::Sandbox,
                _ => PidNamespace::Own,
            },
            shm_bytes: None,
        };
        let must_not_be_root = security::must_not_be_root(&self.pod, container);
        Ok(ToRun { spec, sub_paths, must_not_be_root })
    }

    /// The files that every container gets, unless the pod mounts its own over them.
    fn add_own_files(&self, name: &str, message_path: Option<&str>, mounts: &mut Vec<Mount>) {
        let etc = self.dirs.data.join("etc");
        let message = message_path.filter(|path| !path.is_empty()).unwrap_or(TERMINATION_LOG);
        let files = [
            ("/etc/resolv.conf", etc.join("resolv.conf")),
            ("/etc/hosts", etc.join("hosts")),
            ("/etc/hostname", etc.join("hostname")),
            (message, self.dirs.termination_message(name)),
        ];
        for (target, source) in files {
            if !mounts.iter().any(|mount| mount.target == target) {
                let kind = MountKind::Bind { source };
                mounts.push(Mount { target: target.to_owned(), kind, read_only: false });
            }
        }
    }
}
