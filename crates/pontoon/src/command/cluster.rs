//! Commands on membership: init, join, leave, tokens, members, status, kubeconfig.

use std::io::Write;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::{self, Output, RoleName};
use crate::client::{Client, encode};
use crate::output::{self, Out, Table, text};

/// `pontoon init`.
///
/// # Errors
/// When this node is a member already, or cannot become a manager.
pub(super) async fn init(
    client: &Client,
    output: Output,
    options: &cli::Init,
) -> anyhow::Result<()> {
    if options.force_new_cluster {
        return force_new_cluster(client, output).await;
    }
    let body = json!({
        "advertiseAddr": options.advertise_addr,
        "clusterCidr": options.cluster_cidr,
        "serviceCidr": options.service_cidr,
    });
    let working = output::working("making the cluster …");
    let made = client.post("/pontoon/v1/init", &body).await?;
    drop(working);
    let words = format!(
        "This node ({node}) is the first manager of a new cluster.\n\n\
         Another server joins as a worker with\n\n    pontoon up --join {worker}@{address}\n\n\
         or, where `pontoon daemon` runs already,\n\n    pontoon join --token {worker} {address}\n\n\
         and as a manager with the token that `pontoon join-token manager` prints.\n\
         For kubectl: pontoon kubeconfig > ~/.kube/config",
        node = text(&made["node"]),
        worker = text(&made["workerToken"]),
        address = text(&made["address"]),
    );
    output::say(output, &made, &words)
}

async fn force_new_cluster(client: &Client, output: Output) -> anyhow::Result<()> {
    let working = output::working("going on alone …");
    let made = client.post("/pontoon/v1/force-new-cluster", &Value::Null).await?;
    drop(working);
    let words = format!(
        "This node ({}) is the only manager now. The other managers were removed: never start them again with \
         what they have on their disks; remove that and let them join anew.\n\
         The state as it was before is kept in store.before-force below the data directory.",
        text(&made["node"])
    );
    output::say(output, &made, &words)
}

/// `pontoon join`.
///
/// # Errors
/// What the manager, or the token, has against it.
pub(super) async fn join(
    client: &Client,
    output: Output,
    options: &cli::Join,
) -> anyhow::Result<()> {
    let manager = &options.manager;
    let body = json!({
        "token": options.token,
        "manager": manager,
        "advertiseAddr": options.advertise_addr,
    });
    let working = output::working(format!("joining the cluster of {manager} …"));
    let joined = client.post("/pontoon/v1/join", &body).await?;
    drop(working);
    let (node, role) = (text(&joined["node"]), text(&joined["role"]));
    let words = match (joined["already"] == true, joined["problem"].as_str()) {
        (false, _) => format!("This node ({node}) is a {role} of the cluster."),
        (true, None) => {
            format!("This node ({node}) is a {role} of that cluster already, and goes on as such.")
        }
        (true, Some(problem)) => anyhow::bail!(
            "this node ({node}) is a {role} of that cluster already, but cannot go on as such: {problem}; it goes on by \
             itself when that is mended, or `pontoon leave` gives the membership up"
        ),
    };
    output::say(output, &joined, &words)
}

/// `pontoon leave`.
///
/// # Errors
/// When the cluster cannot spare this node, unless forced.
pub(super) async fn leave(
    client: &Client,
    output: Output,
    options: &cli::Leave,
) -> anyhow::Result<()> {
    let working = output::working("leaving the cluster …");
    let left = client.post("/pontoon/v1/leave", &json!({ "force": options.force })).await?;
    drop(working);
    output::say(
        output,
        &left,
        "This node has left its cluster; nothing of it remains on this machine but its images.",
    )
}

/// `pontoon join-token`.
///
/// # Errors
/// When this node is no manager.
pub(super) async fn join_token(
    client: &Client,
    output: Output,
    options: &cli::JoinToken,
) -> anyhow::Result<()> {
    let role = match options.role {
        RoleName::Worker => "worker",
        RoleName::Manager => "manager",
    };
    let body = json!({ "role": role, "rotate": options.rotate });
    let answer = client.post("/pontoon/v1/join-token", &body).await?;
    let (token, address) = (text(&answer["token"]), text(&answer["address"]));
    let words = if options.quiet {
        token
    } else {
        format!(
            "A server joins as a {role} with\n\n    pontoon up --join {token}@{address}\n\nor, where `pontoon daemon` runs already,\n\n    pontoon join --token {token} {address}"
        )
    };
    output::say(output, &answer, &words)
}

/// `pontoon members`.
///
/// # Errors
/// When this node is in no cluster.
pub(super) async fn members(
    client: &Client,
    output: Output,
    options: &cli::Members,
) -> anyhow::Result<()> {
    let members = client.get("/pontoon/v1/members").await?;
    if options.format == Some(cli::MembersFormat::Consul) {
        return consul_members(&members);
    }
    output::print(output, &members, |members| {
        let mut table = Table::new(&["NAME", "ADDRESS", "STATUS", "ROLE", "VERSION"], 0);
        for member in members["members"].as_array().into_iter().flatten() {
            let cells = ["name", "address", "status", "role", "version"];
            table.row(cells.iter().map(|cell| text(&member[*cell])).collect());
        }
        table
    })
}

/// The members in the columns of `consul members`.
fn consul_members(members: &Value) -> anyhow::Result<()> {
    let (build, datacenter) =
        (text(&members["consul"]["build"]), text(&members["consul"]["datacenter"]));
    let row = |member: &Value| {
        let (kind, segment) = match member["role"] == "manager" {
            true => ("server", "<all>"),
            false => ("client", "<default>"),
        };
        // A suspect may still refute it.
        let status = match member["status"] == "suspect" {
            true => "alive".to_owned(),
            false => text(&member["status"]),
        };
        let [kind, protocol, segment] = [kind, "2", segment].map(str::to_owned);
        let (name, address) = (text(&member["name"]), text(&member["address"]));
        vec![name, address, status, kind, build.clone(), protocol, datacenter.clone(), segment]
    };
    let mut rows: Vec<Vec<String>> =
        members["members"].as_array().into_iter().flatten().map(row).collect();
    // Servers first, each kind in order of names.
    rows.sort_by(|a, b| (&a[7], &a[0]).cmp(&(&b[7], &b[0])));
    let headings = ["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Segment"];
    let headings = headings.map(str::to_owned);
    output::print_columns_apart(&headings, rows.iter().map(Vec::as_slice), 2, &mut Out)?;
    output::warn(members);
    Ok(())
}

/// `pontoon status`.
///
/// # Errors
/// When no daemon answers.
pub(super) async fn status(client: &Client, output: Output) -> anyhow::Result<()> {
    let status = client.get("/pontoon/v1/status").await?;
    if output == Output::Json || output == Output::Yaml {
        return output::document(output, &status);
    }
    for (label, key) in [
        ("Node", "node"),
        ("Version", "version"),
        ("Cluster", "cluster"),
        ("Role", "role"),
        ("Address", "address"),
        ("Leader", "leader"),
        ("Revision", "revision"),
        ("Managers", "managers"),
        ("Problem", "problem"),
        ("Warning", "warning"),
    ] {
        match &status[key] {
            Value::Null if key == "cluster" => writeln!(
                Out,
                "{label:<10}none; `pontoon init` makes one, `pontoon join` joins one"
            )?,
            Value::Null => {}
            value if key == "managers" => writeln!(Out, "{label:<10}{}", manager_names(value))?,
            value => writeln!(Out, "{label:<10}{}", text(value))?,
        }
    }
    Ok(())
}

/// The managers by name, with a word at those that do not answer.
fn manager_names(managers: &Value) -> String {
    let name = |manager: &Value| match manager["reachable"] == false {
        true => format!("{} (unreachable)", text(&manager["name"])),
        false => text(&manager["name"]),
    };
    let names: Vec<String> = managers.as_array().into_iter().flatten().map(name).collect();
    names.join(", ")
}

/// `pontoon kubeconfig`.
///
/// # Errors
/// When this node is no manager.
pub(super) async fn kubeconfig(
    client: &Client,
    output: Output,
    options: &cli::Kubeconfig,
) -> anyhow::Result<()> {
    let server = options.server.as_deref().map(|server| format!("?server={}", encode(server)));
    let path = format!("/pontoon/v1/kubeconfig{}", server.unwrap_or_default());
    let answer = client.get(&path).await?;
    if output == Output::Json {
        return output::document(output, &answer);
    }
    // YAML by nature.
    let config = answer["kubeconfig"].as_str().context("read the daemon's answer")?;
    Out.write_all(config.as_bytes())?;
    Ok(())
}
