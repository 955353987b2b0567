//! `pontoon run`: an application in one line.

use anyhow::{Context, bail};
use http::Method;
use serde_json::{Value, json};

use crate::cli::{Output, Run};
use crate::client::{Client, encode, is_not_found};
use crate::output;

/// Makes a Deployment, and a Service when there is a port.
///
/// # Errors
/// When the server refuses one of them; what it took stays, and the message says so.
pub(super) async fn run(client: &Client, output: Output, options: Run) -> anyhow::Result<()> {
    let port = options.port;
    let namespace = encode(&options.namespace);
    let deployment = client
        .post(
            &format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
            &deployment(&options, port),
        )
        .await?;
    let mut made = json!({ "deployment": deployment });
    let mut words = format!("deployment {} with {} replicas", options.name, options.replicas);
    if let Some((port, target)) = port {
        let service = service(&options, port, target);
        made["service"] = client
            .post(&format!("/api/v1/namespaces/{namespace}/services"), &service)
            .await
            .with_context(|| {
                format!("the deployment {} is made, its service is not", options.name)
            })?;
        words.push_str(&format!(", service {}:{port}", options.name));
        if let Some(node_port) = made["service"]["spec"]["ports"][0]["nodePort"].as_u64() {
            words.push_str(&format!(" (port {node_port} on every node)"));
        }
    }
    output::say(output, &made, &format!("made {words}"))
}

/// Removes what [`run`] made, under each of these names.
///
/// # Errors
/// At the first name that nothing has; those before it are removed.
pub(super) async fn remove(
    client: &Client,
    output: Output,
    namespace: &str,
    names: &[String],
) -> anyhow::Result<()> {
    for name in names {
        let (space, part) = (encode(namespace), encode(name));
        let mut removed = Vec::new();
        for (kind, path) in [
            ("service", format!("/api/v1/namespaces/{space}/services/{part}")),
            ("deployment", format!("/apis/apps/v1/namespaces/{space}/deployments/{part}")),
        ] {
            match client.call(Method::DELETE, &path, None).await {
                Ok(_) => removed.push(kind),
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error.context(format!("remove the {kind} {name}"))),
            }
        }
        if removed.is_empty() {
            bail!("service {name:?} not found; see `pontoon service ls`");
        }
        let said = json!({ "name": name, "removed": removed });
        output::say(output, &said, &format!("removed {name} ({})", removed.join(", ")))?;
    }
    Ok(())
}

fn deployment(options: &Run, port: Option<(u16, u16)>) -> Value {
    let labels = json!({ "app": options.name });
    // What the user gives counts, also under a name that is given otherwise.
    let is_given = |name: &str| options.env.iter().any(|(given, _)| given == name);
    let own =
        [("POD_NAME", "metadata.name"), ("POD_IP", "status.podIP"), ("NODE_NAME", "spec.nodeName")];
    let own = own.into_iter().filter(|(name, _)| !is_given(name));
    let given = options.env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    let env: Vec<Value> = given.chain(own.map(|(name, path)| field(name, path))).collect();
    let mut container = json!({ "name": options.name, "image": options.image, "env": env });
    if !options.args.is_empty() {
        container["args"] = json!(options.args);
    }
    if let Some((_, target)) = port {
        container["ports"] = json!([{ "containerPort": target }]);
        container["readinessProbe"] =
            json!({ "tcpSocket": { "port": target }, "periodSeconds": 1 });
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": options.name, "labels": labels },
        "spec": {
            "replicas": options.replicas,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        },
    })
}

fn field(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } })
}

fn service(options: &Run, port: u16, target: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": options.name, "labels": { "app": options.name } },
        "spec": {
            "type": if options.node_port { "NodePort" } else { "ClusterIP" },
            "selector": { "app": options.name },
            "ports": [{ "port": port, "targetPort": target }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_gives_is_not_overridden() {
        let options = Run {
            name: "web".to_owned(),
            image: "web:1".to_owned(),
            replicas: 1,
            port: None,
            node_port: false,
            env: vec![("POD_NAME".to_owned(), "mine".to_owned())],
            namespace: "default".to_owned(),
            args: Vec::new(),
        };
        let made = deployment(&options, None);
        let env = &made["spec"]["template"]["spec"]["containers"][0]["env"];
        let named = |name: &str| -> Vec<&Value> {
            env.as_array().unwrap().iter().filter(|e| e["name"] == name).collect()
        };
        assert_eq!(named("POD_NAME"), [&json!({ "name": "POD_NAME", "value": "mine" })]);
        assert_eq!(named("POD_IP").len(), 1);
    }
}
