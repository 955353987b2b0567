//! Deployments, replica sets, daemon sets and the revisions of these as rows.

use jiff::Timestamp;
use serde_json::Value;

use super::column::{AGE, Column, Layout, NAME, age, name, number, shown, wide};
use super::value::{NONE, entries, integer, list, or_none, pairs, scalar, text};

const CONTAINERS: Column = wide("Containers", "Names of the containers in the template.");
const IMAGES: Column = wide("Images", "Images of the containers in the template.");
const SELECTOR: Column = wide("Selector", "Labels of the pods that belong to it.");

pub(super) static DEPLOYMENTS: Layout = Layout {
    columns: &[
        NAME,
        shown("Ready", "How many of the wanted pods are ready."),
        number("Up-to-date", "How many pods are made from the newest template."),
        number("Available", "How many pods have been ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let ready = integer(object, "/status/readyReplicas");
        let head = vec![
            name(object),
            format!("{ready}/{}", replicas(object)).into(),
            integer(object, "/status/updatedReplicas").into(),
            integer(object, "/status/availableReplicas").into(),
        ];
        with_template(head, object, now)
    },
    row_conditions: None,
};

pub(super) static REPLICA_SETS: Layout = Layout {
    columns: &[
        NAME,
        number("Desired", "How many pods are wanted."),
        number("Current", "How many pods there are."),
        number("Ready", "How many pods are ready."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let head = vec![
            name(object),
            replicas(object).into(),
            integer(object, "/status/replicas").into(),
            integer(object, "/status/readyReplicas").into(),
        ];
        with_template(head, object, now)
    },
    row_conditions: None,
};

pub(super) static DAEMON_SETS: Layout = Layout {
    columns: &[
        NAME,
        number("Desired", "How many nodes should run the pod."),
        number("Current", "How many of them do."),
        number("Ready", "How many of the pods are ready."),
        number("Up-to-date", "How many pods are made from the newest template."),
        number("Available", "How many pods have been ready for long enough."),
        shown("Node Selector", "Labels of the nodes that should run the pod."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let head = vec![
            name(object),
            integer(object, "/status/desiredNumberScheduled").into(),
            integer(object, "/status/currentNumberScheduled").into(),
            integer(object, "/status/numberReady").into(),
            integer(object, "/status/updatedNumberScheduled").into(),
            integer(object, "/status/numberAvailable").into(),
            pairs(object, "/spec/template/spec/nodeSelector").into(),
        ];
        with_template(head, object, now)
    },
    row_conditions: None,
};

pub(super) static CONTROLLER_REVISIONS: Layout = Layout {
    columns: &[
        NAME,
        shown("Controller", "The object whose revision it is."),
        number("Revision", "The number of the revision; the newest has the highest."),
        AGE,
    ],
    cells: |object, now| {
        let owners = list(object, "/metadata/ownerReferences").iter();
        let controller =
            owners.clone().find(|owner| owner.pointer("/controller") == Some(&Value::Bool(true)));
        let controller = controller.map_or(NONE.to_owned(), |owner| {
            let group = text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
            let kind = text(owner, "/kind").to_lowercase();
            format!("{kind}.{group}/{}", text(owner, "/name"))
        });
        vec![name(object), controller.into(), integer(object, "/revision").into(), age(object, now)]
    },
    row_conditions: None,
};

/// Replicas default to one.
fn replicas(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn with_template(mut cells: Vec<Value>, object: &Value, now: Timestamp) -> Vec<Value> {
    let containers = list(object, "/spec/template/spec/containers");
    let of_each = |pointer| {
        let words: Vec<&str> =
            containers.iter().map(|container| text(container, pointer)).collect();
        words.join(",")
    };
    cells.push(age(object, now));
    cells.push(of_each("/name").into());
    cells.push(of_each("/image").into());
    cells.push(selector(object).into());
    cells
}

/// A label selector in `kubectl`'s short form.
fn selector(object: &Value) -> String {
    let mut terms = Vec::new();
    if entries(object, "/spec/selector/matchLabels") > 0 {
        terms.push(pairs(object, "/spec/selector/matchLabels"));
    }
    for expression in list(object, "/spec/selector/matchExpressions") {
        let key = text(expression, "/key");
        let values: Vec<String> = list(expression, "/values").iter().map(scalar).collect();
        let values = values.join(",");
        terms.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => NONE.to_owned(),
        });
    }
    or_none(terms.join(","))
}
