//! Making a container: root filesystem, cgroup, pipes, first process.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::CapabilitySet;

use super::Containers;
use crate::capability;
use crate::cgroup::Group;
use crate::error::Refusal;
use crate::info::{ContainerInfo, ContainerState};
use crate::shim::container::{Container, PlaceOf, Rights, Starting};
use crate::shim::executor::{Program, c_strings};
use crate::shim::launch;
use crate::shim::log::Log;
use crate::shim::oci::{self, Details};
use crate::shim::passwd::{self, Account};
use crate::shim::pause;
use crate::shim::rootfs::{self, Dirs};
use crate::shim::setup::failed;
use crate::shim::streams::Streams;
use crate::shim::view::View;
use crate::spec::{ContainerSpec, PidNamespace, SeccompProfile};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Containers {
    pub(super) fn create(&mut self, spec: ContainerSpec) -> Result<ContainerInfo, Refusal> {
        if self.all.contains_key(&spec.id) {
            return Err(Refusal::ContainerExists(spec.id));
        }
        check(&spec)?;
        let boot = &self.sandbox.boot;
        let dirs = Dirs {
            run: boot.run_dir.join("c").join(&spec.id),
            state: boot.state_dir.join(&spec.id),
        };
        // Of an attempt that was cut off.
        dirs.remove()?;
        let name = format!("{}/{}", boot.cgroup, spec.id);
        let group = Group::create(&self.sandbox.hierarchies, &name)?;
        match self.make(spec, &dirs, &group) {
            Ok(container) => {
                let info = container.info();
                self.all.insert(info.id.clone(), container);
                Ok(info)
            }
            Err(refusal) => {
                self.reap();
                for leftover in [group.remove(), dirs.remove()].into_iter().filter_map(Result::err)
                {
                    eprintln!("after a failed create: {leftover}");
                }
                Err(refusal)
            }
        }
    }

    fn make(
        &mut self,
        spec: ContainerSpec,
        dirs: &Dirs,
        group: &Group,
    ) -> Result<Container, Refusal> {
        group.limit(&spec.limits)?;
        group.kill_together();
        if !spec.security.privileged {
            group.restrict_devices()?;
        }
        dirs.make()?;
        let root = rootfs::assemble(&spec.rootfs, dirs)?;
        let account =
            passwd::resolve(&spec.user, &root.text("/etc/passwd"), &root.text("/etc/group"))?;
        root.make_dir(&spec.cwd)
            .map_err(|e| Refusal::InvalidSpec(format!("working directory {:?}: {e}", spec.cwd)))?;
        let rights = self.rights(&spec)?;
        let log = Log::open(&spec.log).map_err(|e| failed("open the log", e))?;
        let env = self.environment(&spec, &account);
        let mut container = Container {
            id: spec.id.clone(),
            program: spec.argv[0].clone(),
            env,
            cwd: spec.cwd.clone(),
            tty: spec.tty,
            pid_namespace: self.pid_namespace(&spec),
            dirs: dirs.clone(),
            group: group.clone(),
            account,
            rights,
            state: ContainerState::Created,
            pid: None,
            exit: None,
            started_at: None,
            log,
            outputs: Vec::new(),
            stdin: None,
            terminal: None,
            starting: None,
        };
        self.fork_first(&spec, &mut container)?;
        Ok(container)
    }

    fn fork_first(
        &mut self,
        spec: &ContainerSpec,
        container: &mut Container,
    ) -> Result<(), Refusal> {
        let config = oci::config(&Details {
            spec,
            dirs: &container.dirs,
            account: &container.account,
            capabilities: container.rights.capabilities,
            until_filtered: self.until_filtered(&container.rights),
            shm: self.sandbox.shm(),
            pid_namespace: self.pid_namespace_file(container.pid_namespace)?,
        })?;
        std::fs::write(container.dirs.run.join("config.json"), config.to_string())
            .map_err(|e| failed("write the configuration", e))?;
        let streams = Streams::make(spec.tty, spec.stdin, &container.account)
            .map_err(|e| failed("make the pipes", e))?;
        let (status, told) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("make the pipes", e))?;
        let doors = container.group.doors()?;
        let view =
            View::of(&container.group).map_err(|e| failed("show the container its cgroup", e))?;
        let program = Program {
            argv: c_strings(spec.argv.iter().cloned()).map_err(|e| invalid("arguments", &e))?,
            env: env_strings(&container.env)?,
            search: search_path(&container.env),
            doors: doors.iter().map(AsRawFd::as_raw_fd).collect(),
            status: told.as_raw_fd(),
            terminal: streams.terminal_socket(),
            filters: container.rights.filters.clone(),
            capabilities: container.rights.capabilities,
            attachments: view.attachments(),
        };
        let place = PlaceOf::new(&container.id, &container.dirs);
        let Streams { stdio, ends, .. } = streams;
        let pid = place.with(|place| launch::create(place, program, stdio))?;
        container.pid = Some(pid);
        let terminal = container.connect(ends).map_err(|e| failed("keep the pipes", e))?;
        container.starting = Some(Starting { status, terminal });
        Ok(())
    }

    fn rights(&mut self, spec: &ContainerSpec) -> Result<Rights, Refusal> {
        let capabilities = capability::of(&spec.security, self.sandbox.capabilities)?;
        let confined =
            !spec.security.privileged && spec.security.seccomp == SeccompProfile::Default;
        let filters = if confined { self.filters_for(capabilities)? } else { Default::default() };
        Ok(Rights { capabilities, filters })
    }

    /// Installing a filter takes CAP_SYS_ADMIN, unless privileges can never be gained again.
    pub(super) fn until_filtered(&self, rights: &Rights) -> CapabilitySet {
        let admin = CapabilitySet::SYS_ADMIN.intersection(self.sandbox.capabilities);
        rights.capabilities.union(admin)
    }

    fn environment(&self, spec: &ContainerSpec, account: &Account) -> Vec<(String, String)> {
        let mut env = vec![("PATH".to_owned(), PATH.to_owned())];
        let home = account.home.clone().filter(|home| !home.is_empty());
        env.push(("HOME".into(), home.unwrap_or_else(|| "/".into())));
        let hostname = &self.sandbox.boot.spec.hostname;
        if !hostname.is_empty() {
            env.push(("HOSTNAME".into(), hostname.clone()));
        }
        if spec.tty {
            env.push(("TERM".into(), "xterm".into()));
        }
        merge(&mut env, &spec.env);
        env
    }

    fn pid_namespace(&self, spec: &ContainerSpec) -> PidNamespace {
        if self.sandbox.boot.spec.host_pid { PidNamespace::Host } else { spec.pid_namespace }
    }

    fn pid_namespace_file(
        &mut self,
        wanted: PidNamespace,
    ) -> Result<Option<Option<PathBuf>>, Refusal> {
        match wanted {
            PidNamespace::Own => Ok(None),
            PidNamespace::Host => Ok(Some(None)),
            PidNamespace::Sandbox => {
                let pid = match self.pause {
                    Some(pid) => pid,
                    None => pause::start().map_err(|e| failed("share a pid namespace", e))?,
                };
                self.pause = Some(pid);
                Ok(Some(Some(format!("/proc/{}/ns/pid", pid.as_raw_nonzero()).into())))
            }
        }
    }
}

fn check(spec: &ContainerSpec) -> Result<(), Refusal> {
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(Refusal::InvalidSpec("no program to run".into()));
    }
    check_cwd(&spec.cwd)
}

/// `/proc/self/fd/7` as a working directory is a way out (CVE-2024-21626).
pub(super) fn check_cwd(cwd: &str) -> Result<(), Refusal> {
    let parts: Vec<&str> = cwd.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let absolute = cwd.is_empty() || cwd.starts_with('/');
    if absolute && parts.first() != Some(&"proc") && !parts.contains(&"..") {
        return Ok(());
    }
    Err(Refusal::InvalidSpec(format!("{cwd:?} cannot be a working directory")))
}

/// The second's words replace the first's of the same name.
pub(super) fn merge(env: &mut Vec<(String, String)>, more: &[(String, String)]) {
    for (name, value) in more {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => env.push((name.clone(), value.clone())),
        }
    }
}

pub(super) fn env_strings(env: &[(String, String)]) -> Result<Vec<std::ffi::CString>, Refusal> {
    if let Some((name, _)) = env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return Err(Refusal::InvalidSpec(format!("{name:?} is no name for a variable")));
    }
    c_strings(env.iter().map(|(name, value)| format!("{name}={value}")))
        .map_err(|e| invalid("environment", &e))
}

pub(super) fn search_path(env: &[(String, String)]) -> String {
    env.iter().find(|(name, _)| name == "PATH").map_or_else(String::new, |(_, path)| path.clone())
}

pub(super) fn invalid(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::InvalidSpec(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_directories_outside_the_root_are_refused() {
        for good in ["", "/", "/srv", "/proc-like/x"] {
            assert!(check_cwd(good).is_ok(), "{good:?}");
        }
        for bad in [
            "srv",
            "/proc/self/fd/7",
            "//proc/self/fd/7",
            "/./proc/1/cwd",
            "/srv/../proc/self/fd/3",
        ] {
            assert!(check_cwd(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn later_variables_win() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let mut env = vec![pair("A", "1"), pair("B", "2")];
        merge(&mut env, &[pair("B", "3"), pair("C", "4")]);
        assert_eq!(env, [pair("A", "1"), pair("B", "3"), pair("C", "4")]);
        assert!(env_strings(&[pair("A=B", "")]).is_err());
        assert!(env_strings(&[pair("A", "\0")]).is_err());
    }
}
