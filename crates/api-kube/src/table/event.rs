//! Events as rows.

use jiff::Timestamp;
use serde_json::Value;

use super::age::since;
use super::column::{Column, Layout, shown, wide};
use super::value::{integer, text, text_or};

const COLUMNS: &[Column] = &[
    shown("Last Seen", "Time since it happened last."),
    shown("Type", "Normal or Warning."),
    shown("Reason", "What happened, in one word."),
    shown("Object", "To what it happened."),
    wide("Subobject", "To which part of the object."),
    wide("Source", "Who says so."),
    shown("Message", "What happened."),
    wide("First Seen", "Time since it happened first."),
    wide("Count", "How often it happened."),
    wide("Name", "Name of the event."),
];

pub(super) static LAYOUT: Layout = Layout { columns: COLUMNS, cells, row_conditions: None };

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = text_or(event, "/firstTimestamp", text(event, "/eventTime"));
    let last = text_or(event, "/lastTimestamp", first);
    let last = text_or(event, "/series/lastObservedTime", last);
    let count = match (integer(event, "/series/count"), integer(event, "/count")) {
        (0, 0) => 1,
        (0, count) => count,
        (count, _) => count,
    };
    vec![
        since(last, now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object(event).into(),
        text(event, "/involvedObject/fieldPath").into(),
        source(event).into(),
        text(event, "/message").trim().into(),
        since(first, now).into(),
        count.to_string().into(),
        text(event, "/metadata/name").into(),
    ]
}

fn object(event: &Value) -> String {
    let kind = text(event, "/involvedObject/kind").to_lowercase();
    match text(event, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let component = text_or(event, "/source/component", text(event, "/reportingComponent"));
    let host = text_or(event, "/source/host", text(event, "/reportingInstance"));
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}
