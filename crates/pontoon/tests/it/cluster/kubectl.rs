//! kubectl, as it is installed, at a real cluster: what people type must do what they expect, and say nothing more.

mod changes;
mod nodes;
mod pods;
mod private_images;
mod reads;
mod rollout;
mod trouble;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::world::{Done, World, cluster, feed, has_kubectl, lack, wait};

/// A static program with a shell and much else; the built-in image has only the server's own.
pub(super) const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 12] =
    ["cat", "echo", "env", "id", "ls", "rm", "seq", "sh", "sleep", "tail", "tar", "touch"];

/// kubectl at the first machine of a world.
struct Kubectl {
    world: World,
}

impl Kubectl {
    /// A cluster of these machines, or `None`, with a word why.
    fn at(names: &[&str]) -> Option<Kubectl> {
        if !has_kubectl() {
            return None;
        }
        Some(Kubectl { world: cluster(names)? })
    }

    /// The same with the image `box:1`, which has a shell.
    fn with_box(names: &[&str]) -> Option<Kubectl> {
        if !is_installed(BUSYBOX) {
            return None;
        }
        let kubectl = Kubectl::at(names)?;
        let archive = box_archive(&kubectl.world);
        kubectl.world.on("a", &["image", "import", &archive, "box:1"]).expect_ok();
        Some(kubectl)
    }

    fn try_run(&self, line: &str) -> Done {
        self.world.kubectl("a", &split(line))
    }

    /// Runs a command that must succeed without a word on standard error; words are parted by spaces, and `'…'` keeps
    /// them together.
    #[track_caller]
    fn run(&self, line: &str) -> String {
        let done = self.try_run(line);
        assert!(done.ok, "{line}: {}{}", done.out, done.err);
        assert_eq!(done.err, "", "{line}");
        done.out
    }

    /// Runs a command that must fail, for its message.
    #[track_caller]
    fn refused(&self, line: &str) -> String {
        let done = self.try_run(line);
        assert!(!done.ok, "{line} should have failed, but said: {}", done.out);
        done.err
    }

    /// Runs a command with this on its standard input.
    fn fed(&self, line: &str, input: &str) -> Done {
        feed(self.world.kubectl_command("a", &split(line)), input)
    }

    #[track_caller]
    fn apply(&self, manifest: &str) -> String {
        let done = self.fed("apply -f -", manifest).expect_ok();
        assert_eq!(done.err, "");
        done.out
    }

    /// The message of a manifest that must not be taken.
    #[track_caller]
    fn not_applied(&self, manifest: &str) -> String {
        self.fed("apply -f -", manifest).expect_error()
    }

    fn object(&self, what: &str) -> Value {
        self.world.objects("a", &split(what))
    }

    /// One field of an object as text.
    #[track_caller]
    fn field(&self, what: &str, path: &str) -> String {
        self.run(&format!("get {what} -o jsonpath={{{path}}}"))
    }

    /// Waits until a field is as wanted.
    #[track_caller]
    fn wait_field(&self, what: &str, path: &str, wanted: &str) {
        wait(&format!("{path} of {what} is {wanted}"), || {
            let line = format!("get {what} -o jsonpath={{{path}}}");
            (self.try_run(&line).out == wanted).then_some(())
        });
    }

    /// Waits until something was told of an object.
    #[track_caller]
    fn wait_event(&self, reason: &str, name: &str) -> String {
        let line = format!(
            "get events --field-selector=reason={reason},involvedObject.name={name} -o jsonpath={{.items[*].message}}"
        );
        wait(&format!("{reason} is told of {name}"), || {
            Some(self.try_run(&line).out).filter(|out| !out.is_empty())
        })
    }
}

/// Whether a program is there; says so where it is not.
pub(super) fn is_installed(program: &str) -> bool {
    let is = Path::new(program).exists();
    if !is {
        lack(&format!("{program} is not installed"));
    }
    is
}

/// A root filesystem of busybox in a tar file.
pub(super) fn box_archive(world: &World) -> String {
    let root = world.machine_dir("a").join("box");
    let programs = root.join("bin");
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    std::fs::copy(BUSYBOX, programs.join("busybox")).unwrap();
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", programs.join(applet)).unwrap();
    }
    let archive = root.with_extension("tar");
    let packed =
        Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    assert!(packed.unwrap().success());
    archive.to_str().unwrap().to_owned()
}

fn split(line: &str) -> Vec<&str> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(
            |(at, part)| {
                if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
            },
        )
        .collect()
}

#[track_caller]
fn has(text: &str, wanted: &str) {
    assert!(text.contains(wanted), "no {wanted:?} in: {text}");
}
