//! The `consul` command, where there is one: on the path, or as `PONTOON_CONSUL` names it. It is not in Debian any more,
//! so that its absence is no failure.

use std::process::{Command, Output};

use tokio::net::TcpListener;

use super::{Guarded, deny};

/// The command, if it can be run.
fn command() -> Option<String> {
    let name = std::env::var("PONTOON_CONSUL").unwrap_or_else(|_| "consul".to_owned());
    let is_there =
        Command::new(&name).arg("version").output().is_ok_and(|out| out.status.success());
    if !is_there {
        eprintln!("skipped: there is no `consul` command; PONTOON_CONSUL may name one");
    }
    is_there.then_some(name)
}

/// Runs the command with a token at a server.
struct Shell {
    command: String,
    address: String,
}

impl Shell {
    async fn run(&self, token: &str, words: &[&str]) -> Output {
        let mut command = Command::new(&self.command);
        command.args(words).env_clear();
        command.env("CONSUL_HTTP_ADDR", &self.address).env("CONSUL_HTTP_TOKEN", token);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// What it says if it succeeds.
    async fn say(&self, token: &str, words: &[&str]) -> String {
        let out = self.run(token, words).await;
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "consul {words:?}: {errors}");
        String::from_utf8(out.stdout).unwrap()
    }
}

/// What follows a name at the beginning of a line.
fn value(said: &str, name: &str) -> String {
    let found = said.lines().find_map(|line| line.trim().strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in {said}")).trim().to_owned()
}

async fn serve(all: &Guarded, command: String) -> Shell {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = all.bed.server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(server.clone().serve(stream));
        }
    });
    Shell { command, address }
}

#[tokio::test]
async fn consul_acl_works() {
    let Some(command) = command() else { return };
    let all = deny().await;
    let shell = serve(&all, command).await;
    let management = all.management.clone();
    let again = shell.run("", &["acl", "bootstrap"]).await;
    assert!(String::from_utf8_lossy(&again.stderr).contains("ACL bootstrap no longer allowed"));
    policies(&shell, &management).await;
    roles(&shell, &management).await;
    tokens(&shell, &management).await;
    let denied = shell.run("", &["acl", "token", "list"]).await;
    assert!(String::from_utf8_lossy(&denied.stderr).contains("Permission denied"));
}

async fn policies(shell: &Shell, token: &str) {
    let rules = r#"key_prefix "app/" { policy = "write" } session_prefix "" { policy = "write" }"#;
    let create = ["acl", "policy", "create", "-name", "app", "-rules", rules];
    let id = value(&shell.say(token, &create).await, "ID:");
    let read = shell.say(token, &["acl", "policy", "read", "-name", "app"]).await;
    assert!(read.contains(rules) && value(&read, "ID:") == id, "{read}");
    let update = ["acl", "policy", "update", "-id", &id, "-description", "of the app"];
    assert_eq!(value(&shell.say(token, &update).await, "Description:"), "of the app");
    assert!(shell.say(token, &["acl", "policy", "list"]).await.contains("global-management"));
    shell.say(token, &["acl", "policy", "create", "-name", "short"]).await;
    shell.say(token, &["acl", "policy", "delete", "-name", "short"]).await;
}

async fn roles(shell: &Shell, token: &str) {
    let create = [
        "acl",
        "role",
        "create",
        "-name",
        "apps",
        "-policy-name",
        "app",
        "-service-identity",
        "web",
    ];
    let id = value(&shell.say(token, &create).await, "ID:");
    assert!(shell.say(token, &["acl", "role", "read", "-name", "apps"]).await.contains("web"));
    let update = ["acl", "role", "update", "-id", &id, "-description", "all of them"];
    assert_eq!(value(&shell.say(token, &update).await, "Description:"), "all of them");
    assert!(shell.say(token, &["acl", "role", "list"]).await.contains("apps"));
    shell.say(token, &["acl", "role", "create", "-name", "short", "-policy-name", "app"]).await;
    shell.say(token, &["acl", "role", "delete", "-name", "short"]).await;
}

async fn tokens(shell: &Shell, token: &str) {
    let create = [
        "acl",
        "token",
        "create",
        "-policy-name",
        "app",
        "-description",
        "one",
        "-expires-ttl",
        "1h",
    ];
    let said = shell.say(token, &create).await;
    let (accessor, secret) = (value(&said, "AccessorID:"), value(&said, "SecretID:"));
    shell.say(&secret, &["kv", "put", "app/a", "1"]).await;
    assert_eq!(shell.say(&secret, &["kv", "get", "app/a"]).await.trim(), "1");
    assert!(!shell.run(&secret, &["kv", "put", "other", "1"]).await.status.success());
    assert!(shell.say(&secret, &["acl", "token", "read", "-self"]).await.contains(&accessor));
    assert!(shell.say(token, &["acl", "token", "read", "-id", &accessor]).await.contains(&secret));
    let clone = ["acl", "token", "clone", "-id", &accessor, "-description", "two"];
    let clone = value(&shell.say(token, &clone).await, "AccessorID:");
    let update = [
        "acl",
        "token",
        "update",
        "-id",
        &accessor,
        "-role-name",
        "apps",
        "-merge-policies",
        "-description",
        "three",
    ];
    let said = shell.say(token, &update).await;
    assert!(said.contains("apps") && said.contains("three"), "{said}");
    assert!(shell.say(token, &["acl", "token", "list"]).await.contains(&clone));
    shell.say(token, &["acl", "token", "delete", "-id", &accessor]).await;
    assert!(!shell.run(&secret, &["kv", "get", "app/a"]).await.status.success());
}
