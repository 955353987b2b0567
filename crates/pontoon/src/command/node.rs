//! Commands on the cluster's nodes.

use http::Method;
use serde_json::{Value, json};

use super::kube;
use crate::cli::{Node, Output};
use crate::client::{Client, encode, named};
use crate::output::{self, Table, text};

/// Runs a command on nodes.
///
/// # Errors
/// What the cluster has against it.
pub(super) async fn run(client: &Client, output: Output, command: Node) -> anyhow::Result<()> {
    match command {
        Node::Ls => list(client, output).await,
        Node::Inspect { name } => {
            let node = client.get(&format!("/api/v1/nodes/{}", encode(&name))).await;
            let node = node.map_err(named("node", &name, "node ls"))?;
            let output = if output == Output::Json { Output::Json } else { Output::Yaml };
            output::document(output, &node)
        }
        Node::Drain { name } => {
            kube::cordon(client, &name, true).await?;
            let working = output::working(format!("moving the pods off {name} …"));
            kube::evict_all(client, &name).await?;
            drop(working);
            output::say(
                output,
                &json!({ "node": name, "drained": true }),
                &format!("{name} is drained; `pontoon node activate {name}` takes it back"),
            )
        }
        Node::Activate { name } => {
            kube::cordon(client, &name, false).await?;
            output::say(
                output,
                &json!({ "node": name, "active": true }),
                &format!("{name} takes pods again"),
            )
        }
        Node::Promote { name } => change_role(client, output, &name, "manager").await,
        Node::Demote { name } => change_role(client, output, &name, "worker").await,
        Node::Rm { name, force } => {
            let path = format!("/pontoon/v1/nodes/{}?force={force}", encode(&name));
            let removed = client.call(Method::DELETE, &path, None).await?;
            output::say(output, &removed, &format!("{name} is no longer in the cluster"))
        }
    }
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let nodes = client.get("/pontoon/v1/nodes").await?;
    output::print(output, &nodes, |nodes| {
        let headings = [
            "NAME",
            "STATUS",
            "AVAILABILITY",
            "ROLE",
            "MANAGER-STATUS",
            "VERSION",
            "ADDRESS",
            "PODS",
            "POD-CIDR",
        ];
        let mut table = Table::new(&headings, 3);
        for node in nodes["nodes"].as_array().into_iter().flatten() {
            let cells = [
                "name",
                "status",
                "availability",
                "role",
                "managerStatus",
                "version",
                "address",
                "pods",
                "podCidr",
            ];
            table.row(cells.iter().map(|cell| text(&node[*cell])).collect());
        }
        table
    })
}

async fn change_role(
    client: &Client,
    output: Output,
    name: &str,
    role: &str,
) -> anyhow::Result<()> {
    let path = format!("/pontoon/v1/nodes/{}/role", encode(name));
    let answer: Value = client.post(&path, &json!({ "role": role })).await?;
    output::say(output, &answer, &format!("{name} becomes a {role}"))
}
